"""What a person waits for: `xraycam run` of one image, and the commands that read the ledger.

    python -m benchmarks.commands
    python -m benchmarks.commands --before ../other/.venv/bin/xraycam --rounds 9   # another installation, too

Each figure is the median over rounds, in which all are measured in turn. Processor time is that of the
command and all processes it starts; the ratio is to importing TensorFlow and Keras, or SQLAlchemy, alone.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from producer.sample_radiographs import SAMPLES

READERS = ("--help", "runs", "results", "watch --once", "workers", "models")
BASES = {"import tensorflow, keras": "run", "import sqlalchemy": "results"}
# From prctl(2): whoever loses its parent below us becomes our child, so that its time is counted.
_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--before", help="the command `xraycam` of another installation, measured beside")
    given = parser.parse_args()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ours = str(Path(sys.executable).with_name("xraycam"))
    installations = {"": ours} | ({"before: ": given.before} if given.before else {})
    with tempfile.TemporaryDirectory(prefix="xraycam-commands-") as work:
        measure(installations, given.rounds, Path(work))


def measure(installations: dict[str, str], rounds: int, work: Path) -> None:
    image = next(file for file in sorted(SAMPLES.rglob("*.png")))
    (work / "one").mkdir()
    shutil.copy(image, work / "one")
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for round_number in range(-1, rounds):  # the first fills the disk's cache
        for label, program in installations.items():
            home = work / f"home-{label.strip(': ')}"
            environment = {
                name: value for name, value in os.environ.items() if not name.startswith("XRAYCAM_")
            }
            environment |= {"XRAYCAM_HOME": str(home)}
            found = {
                f"{label}run of one image": timed([program, "run", str(work / "one"), "--force"], environment)
            }
            for words in READERS:
                found[f"{label}{words}"] = timed([program, *words.split()], environment)
            if round_number >= 0:
                for name, figure in found.items():
                    seen[name].append(figure)
        for code in BASES:
            figure = timed([sys.executable, "-c", code], {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
            if round_number >= 0:
                seen[code].append(figure)
    median = {
        name: [statistics.median(part) for part in zip(*found, strict=True)] for name, found in seen.items()
    }
    heavy, light = ([median[code] for code in BASES][place] for place in (0, 1))
    print(f"{'':<30}{'clock s':>9}{'processor s':>13}{'ratio':>8}")
    for name, (clock, processor) in median.items():
        base = heavy if "run of one" in name or "tensorflow" in name else light
        print(f"{name:<30}{clock:>9.2f}{processor:>13.2f}{processor / base[1]:>8.2f}")
    if "before: results" in median:
        for name, (clock, processor) in list(median.items()):
            if (before := median.get(f"before: {name}")) is not None:
                print(
                    f"{name}: clock {clock / before[0]:.2f}, processor {processor / before[1]:.2f} of before"
                )


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds by the clock, and of processor time of all processes; what stays behind is waited for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    clock = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
