"""Runs benchmarks and writes what they print into RESULTS.md: `python -m benchmarks [NAME ...] [--quick]`.

    python -m benchmarks                         # all, some hours
    python -m benchmarks throughput commands     # these; the figures of others keep their date
    python -m benchmarks --quick                 # each in a form of a minute or so; not written
    python -m benchmarks --list

Real radiographs are those of --data, beside the project unless told; a benchmark that needs them is skipped
without, and says so. A module takes part by its line in BENCHMARKS and a `main()` that prints its table.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import SKIPPED

PROJECT = Path(__file__).resolve().parents[1]
PAGE = Path(__file__).with_name("RESULTS.md")
DATA = PROJECT.parent / "shared" / "data" / "shenzhen"
PACKAGES = ("xraycam", "tensorflow", "keras", "numpy", "pillow", "celery", "redis", "sqlalchemy", "psycopg")
LONGEST_SECONDS = 6 * 3600


@dataclass(frozen=True)
class Benchmark:
    """A module of this package; `DATA` among its arguments stands for the folder of real radiographs."""

    what: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] | None = ()  # None: it has no quick form


BENCHMARKS = {
    "throughput": Benchmark("what queue and ledger cost", ("DATA",), ("--pairs", "1")),
    "throughput_stages": Benchmark("beside the usual script, at its setting", ("DATA",), None),
    "commands": Benchmark("what a person waits for", (), ("--rounds", "1")),
    "full_size": Benchmark("radiographs of full size"),
    "peers": Benchmark("beside pytorch-grad-cam", ("DATA",), None),
    "feed": Benchmark(
        "what a fast accelerator waits for",
        ("DATA",),
        ("DATA", "--sides", "512", "--rounds", "1", "--seconds", "3"),
    ),
    "enqueue": Benchmark("folders enqueued, and in how much memory", (), ("--files", "20000")),
    "ledger": Benchmark("results recorded in the ledger", ("--seconds", "15"), ("--seconds", "5")),
    "fleet": Benchmark("many accelerators on one ledger", ("--pairs", "2"), ("--pairs", "1")),
    "methods": Benchmark("several methods beside one"),
    "ranking": Benchmark("layers and methods ranked", ("DATA",), ("DATA", "--images", "4")),
    "model_swap": Benchmark("a training publishes while workers work", ("DATA",), None),
    "archive": Benchmark("a long run from end to end", ("--files", "300000"), ("--files", "5000")),
    "remote": Benchmark(
        "object storage beside a disk", (), ("--images", "128", "--pairs", "1", "--keys", "20000")
    ),
    "viewer": Benchmark("pages of the server on long runs", (), ("--images", "20000")),
    "report_memory": Benchmark("memory of a report", (), None),
    "dicom_runs": Benchmark("runs of DICOM beside PNG", (), ("--images", "4", "--rounds", "1")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="a minute or so each; nothing is written")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of real radiographs")
    parser.add_argument("--list", action="store_true", help="name the benchmarks, and when each was run")
    given = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    if given.list:
        for name, benchmark in BENCHMARKS.items():
            print(f"{name:<20}{dated(page, name):<12}{benchmark.what}")
        return
    unknown = [name for name in given.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    failed = []
    for name in given.names or BENCHMARKS:
        command = command_of(name, given.data, quick=given.quick)
        if isinstance(command, str):
            print(f"{name}: skipped, {command}", flush=True)
            continue
        print(f"{name}: {shown(command)}", flush=True)
        output, status, seconds = run(command)
        if status == SKIPPED:
            print(f"{name}: its figures stay as they were", flush=True)
        elif status:
            print(f"{name}: ended with {status}; its figures stay as they were", flush=True)
            failed.append(name)
        elif not given.quick:
            replaced = dated(page, name)
            page = with_section(
                PAGE.read_text(encoding="utf-8"), name, section(name, command, output, seconds)
            )
            PAGE.write_text(page, encoding="utf-8")
            print(f"{name}: written to {PAGE.name}, in place of {replaced or 'nothing'}", flush=True)
    sys.exit(1 if failed else 0)


def command_of(name: str, data: Path, *, quick: bool) -> list[str] | str:
    """The command that measures, or why it cannot be run."""
    benchmark = BENCHMARKS[name]
    arguments = benchmark.quick if quick else benchmark.arguments
    if importlib.util.find_spec(f"benchmarks.{name}") is None:
        return "this release does not have it"
    if arguments is None:
        return "it has no quick form"
    if "DATA" in arguments and not data.is_dir():
        return f"{data} is no folder of radiographs; name one by --data"
    words = [os.path.relpath(data) if word == "DATA" else word for word in arguments]
    return [sys.executable, "-m", f"benchmarks.{name}", *words]


def shown(command: list[str]) -> str:
    return " ".join(["python", *command[1:]])


def run(command: list[str]) -> tuple[str, int, float]:
    """What it prints, shown as it comes; its exit status; seconds."""
    started = time.monotonic()
    lines = []
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line.rstrip())
            status = process.wait(LONGEST_SECONDS)
        except BaseException:
            process.terminate()
            raise
    # Not the blanks that the head of a table begins with.
    return "\n".join(lines).strip("\n"), status, time.monotonic() - started


def section(name: str, command: list[str], output: str, seconds: float) -> str:
    """A benchmark's part of the page."""
    others = (
        "" if sys.platform == "win32" else f", load {os.getloadavg()[2]:.1f} over the last quarter of an hour"
    )
    return (
        f"### {name}: {BENCHMARKS[name].what}\n\n"
        f"{datetime.now(UTC):%Y-%m-%d}, `{shown(command)}`, {seconds:.0f} s; {machine()}{others};\n"
        f"{versions()}\n\n"
        f"```text\n{output}\n```\n"
    )


def machine() -> str:
    """The processors and the system, as far as they can be told."""
    model = ""
    file = Path("/proc/cpuinfo")
    if file.exists():
        found = re.search(r"model name\s*:\s*(.+)", file.read_text(encoding="utf-8"))
        model = f" ({found[1].strip()})" if found else ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} processor cores{model}, {platform.system()}, no GPU asked"


def versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- begin {name} -->", f"<!-- end {name} -->"


def dated(page: str, name: str) -> str:
    """The date of a benchmark's figures on the page; empty without any."""
    begin, end = _marks(name)
    part = page.partition(begin)[2].partition(end)[0]
    found = re.search(r"\d{4}-\d{2}-\d{2}", part)
    return found[0] if found else ""


def with_section(page: str, name: str, text: str) -> str:
    """The page with a benchmark's part replaced; a new one comes after the others, which begin the page."""
    begin, end = _marks(name)
    whole = f"{begin}\n{text}{end}\n"
    if begin in page:
        head, _, rest = page.partition(begin)
        return head + whole + rest.partition(f"{end}\n")[2]
    last = page.rfind("<!-- end ")
    if last >= 0:
        place = page.index("\n", last) + 1
        return page[:place] + "\n" + whole + page[place:]
    title, _, rest = page.partition("\n")
    return f"{title}\n\n{INTRODUCTION}\n\n{whole}\n## Seen earlier\n{rest}"


INTRODUCTION = """\
`python -m benchmarks` writes this page, `python -m benchmarks NAME` one part of it. Figures depend on the
machine, ratios of one run much less."""

if __name__ == "__main__":
    main()
