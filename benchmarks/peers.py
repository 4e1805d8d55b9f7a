"""Beside pytorch-grad-cam: the same files on the same machine, in turn, files in and overlays out.

    python -m benchmarks.peers ../shared/data/shenzhen
    python -m benchmarks.peers ../shared/data/shenzhen --environment build/peers   # made there, and kept

The peer runs at the best of its batch sizes; we run in process and through queue and ledger, all warm. Its
environment is made by pip, several GB unless pip is told of builds for the CPU. MobileNetV2, random weights.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections import defaultdict
from pathlib import Path

from benchmarks import SKIPPED
from benchmarks.throughput import ready_fleet, through_queue
from db.ledger import Ledger
from db.migrate import migrate
from db.models import add_model
from producer.local_run import LocalWorkers
from worker.explain.options import ExplainOptions
from worker.model.metadata import digest_of
from worker.model.store import ensure_current_model, store_of
from worker.settings import Settings

PROJECT = Path(__file__).resolve().parents[1]
PEER = Path(__file__).with_name("peer_pytorch_grad_cam.py")
PACKAGES = ("torch", "torchvision", "grad-cam")
# Input size, where the map is taken by the peer's name and ours, batch sizes of the peer.
SETTINGS = ((224, "last", "out_relu", (1, 8)), (100, "middle", "block_7_add", (8, 32)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of X-rays, searched for *.png")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", help="of 224 and 100, those alone")
    parser.add_argument("--environment", type=Path, default=PROJECT / "build" / "peers")
    given = parser.parse_args()
    python = environment_python(given.environment.absolute())
    files = sorted(given.folder.rglob("*.png"))[: given.images]
    if not files:
        parser.error(f"{given.folder} holds no *.png")
    print(f"{len(files)} images, {given.rounds} rounds; medians\n{versions(python)}")
    print(
        f"{'':<36}{'images/s':>10}{'processor ms':>14}{'times the peer':>16}{'by processor':>14}", flush=True
    )
    with tempfile.TemporaryDirectory(prefix="xraycam-peers-") as work:
        xrays = Path(work) / "xrays"
        xrays.mkdir()
        for number, file in enumerate(files):
            shutil.copy(file, xrays / f"{number:05}.png")
        for size, place, layer, batches in SETTINGS:
            if given.sizes and size not in given.sizes:
                continue
            compare(python, xrays, Path(work) / f"home-{size}", size, place, layer, batches, given.rounds)


def compare(
    python: Path,
    xrays: Path,
    home: Path,
    size: int,
    place: str,
    layer: str,
    batches: tuple[int, ...],
    rounds: int,
) -> None:
    """Print the figures of one setting."""
    settings = Settings(home=home)
    ledger = Ledger(settings.database)
    migrate(ledger)
    model = current_model(ledger, settings, size)
    options = ExplainOptions(layers=(layer,))
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with ready_fleet(settings, ledger) as fleet:
        through_queue(fleet, ledger, xrays, limit_first=True, options=options)
        for _ in range(rounds):
            for batch in batches:
                seen[f"pytorch-grad-cam, batch {batch}"].append(of_peer(python, xrays, size, batch, place))
            seen["xraycam in process"].append(in_child(settings, xrays, model, home / "alone", layer))
            before = processor_seconds(fleet)
            rate = through_queue(fleet, ledger, xrays, options=options)
            spent = 1000 * (processor_seconds(fleet) - before) / len(list(xrays.iterdir()))
            seen["xraycam through the queue"].append((rate, spent))
    found = {
        name: tuple(statistics.median(part) for part in zip(*figures, strict=True))
        for name, figures in seen.items()
    }
    best = max((found[name] for name in found if name.startswith("pytorch")), key=lambda figures: figures[0])
    print(f"{size} px, {layer}")
    for name, (rate, spent) in found.items():
        print(
            f"  {name:<34}{rate:>10.1f}{spent:>14.1f}{rate / best[0]:>16.2f}{best[1] / spent:>14.2f}",
            flush=True,
        )


def environment_python(folder: Path) -> Path:
    """The interpreter of the peer's environment, made if need be; where it cannot be, we end as skipped."""
    python = folder / "bin" / "python"
    check = [str(python), "-c", "import torch, torchvision, pytorch_grad_cam, cv2"]
    try:
        if not python.exists():
            venv.create(folder, with_pip=True)
        if subprocess.run(check, capture_output=True, check=False).returncode:
            install = [str(python), "-m", "pip", "install", "--quiet", *PACKAGES]
            subprocess.run(install, check=True, capture_output=True, text=True)
            subprocess.run(check, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
        print(f"skipped: no environment with {', '.join(PACKAGES)} in {folder}: {lines[-1]}")
        sys.exit(SKIPPED)
    return python


def versions(python: Path) -> str:
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    command = [str(python), "-c", code, *PACKAGES]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return ", ".join(f"{name} {number}" for name, number in zip(PACKAGES, found, strict=True))


def current_model(ledger: Ledger, settings: Settings, size: int) -> Path:
    """A version of random weights, published and current; its folder."""
    store = store_of(settings)
    ensure_current_model(ledger, store)
    folder, version = settings.home / "random", f"random-{size}"
    # In a process of its own: here the workers are not to share the processors with TensorFlow.
    run_python(
        "import sys; from pathlib import Path; from benchmarks.throughput_stages import random_model\n"
        "random_model(Path(sys.argv[1]), int(sys.argv[2]))",
        folder,
        size,
    )
    store.publish(folder)
    digest = digest_of(folder)
    ledger.write(
        add_model,
        version=version,
        digest=digest,
        classes=("Normal", "Tuberculosis"),
        source="a benchmark",
        metrics={},
        promote=True,
    )
    return store.fetch(version, digest)


def of_peer(python: Path, xrays: Path, size: int, batch: int, place: str) -> tuple[float, float]:
    command = [str(python), str(PEER), str(xrays), str(size), str(batch), place]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    rate, spent = answer.stdout.split()[-2:]
    return float(rate), float(spent)


def in_child(settings: Settings, xrays: Path, model: Path, out: Path, layer: str) -> tuple[float, float]:
    """Images/s of the stages alone in a fresh process, and ms of its processor time an image."""
    answer = run_python(
        "import sys, time; from pathlib import Path; from benchmarks.throughput_stages import in_process\n"
        "folder, model, out, batch, threads, layer = sys.argv[1:]\n"
        "files = sorted(Path(folder).rglob('*.png'))\n"
        "spent = []\n"
        "rate = in_process(files, Path(out), Path(model), layers=[layer], batch_size=int(batch),"
        " readers=int(threads), renderers=int(threads), spent=spent)\n"
        "print(rate, spent[0])",
        xrays, model, out, settings.batch_size, settings.worker_threads, layer,
    )  # fmt: skip
    shutil.rmtree(out)
    rate, spent = answer.split()[-2:]
    return float(rate), float(spent)


def run_python(code: str, *arguments: object) -> str:
    """What it prints, in a fresh process without a GPU."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout


def processor_seconds(fleet: LocalWorkers) -> float:
    """Processor time of the workers and their children until now, as Linux counts it."""
    waiting = [node.process.pid for node in fleet.launcher.nodes if node.process is not None]
    ticks = 0
    while waiting:
        process = Path("/proc") / str(waiting.pop())
        fields = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
        for children in process.glob("task/*/children"):
            waiting += map(int, children.read_text(encoding="ascii").split())
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
