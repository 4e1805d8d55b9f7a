"""`xraycam run` on DICOM files, divided by the same on the same pixels as PNG: images/s, scan included.

    python -m benchmarks.dicom_runs --images 24

Radiographs of 3.6 megapixels that are drawn, each another, as uncompressed DICOM of 15 bits, as JPEG lossless
and as the 8-bit PNG of what the reader makes of them. The parts are real: a private broker, a ledger, worker
processes as `xraycam run` starts them, warm. The folders are done in turn, each round beginning with
another; the medians of the ratios count. Processor time, of all these processes, depends less on what else
the machine does.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import shutil
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import click
import numpy as np

from benchmarks.archive import family_of
from benchmarks.dicom import SYNTAXES, drawn, written
from benchmarks.throughput import ready_fleet
from db import runs
from db.ledger import Ledger
from db.migrate import migrate
from producer.enqueue import Request, enqueue
from producer.local_run import LocalWorkers
from producer.publish import publish_chunks
from worker.images.dicom import decode_dicom
from worker.images.limits import Limits
from worker.model.store import ensure_current_model, store_of
from worker.settings import Settings

_KINDS = {"uncompressed": "explicit", "JPEG lossless": "JPEG lossless"}
_PNG = "PNG"


@click.command()
@click.option("--images", default=24, show_default=True, help="Of each kind.")
@click.option("--rounds", default=3, show_default=True, help="How often each folder is done.")
def main(images: int, rounds: int) -> None:
    """Measure runs of DICOM files beside runs of PNG files."""
    work = Path(tempfile.mkdtemp(prefix="xraycam-dicom-runs-"))
    try:
        folders = draw(work / "images", images)
        settings = Settings(home=work / "home")
        ledger = Ledger(settings.database)
        migrate(ledger)
        ensure_current_model(ledger, store_of(settings))
        print("round " + "".join(f"{kind:>16}" for kind in folders) + "   images/s", flush=True)
        rates: dict[str, list[float]] = {kind: [] for kind in folders}
        costs: dict[str, list[float]] = {kind: [] for kind in folders}
        with ready_fleet(settings, ledger) as fleet:
            images_per_second(fleet, ledger, folders[_PNG])
            for number in range(1, rounds + 1):
                kinds = list(folders)
                order = kinds[number % len(kinds) :] + kinds[: number % len(kinds)]
                for kind in order:
                    before = processor_seconds()
                    rates[kind].append(images_per_second(fleet, ledger, folders[kind]))
                    costs[kind].append((processor_seconds() - before) / images)
                print(f"{number:5} " + "".join(f"{rates[kind][-1]:16.2f}" for kind in kinds), flush=True)
        for kind, folder in folders.items():
            size = sum(file.stat().st_size for file in folder.iterdir()) / images / 1e6
            cost = statistics.median(costs[kind]) * 1000
            print(
                f"{kind}: {ratio(rates[kind], rates[_PNG]):.2f} of PNG's images/s, {cost:.0f} ms of "
                f"processor an image, {ratio(costs[kind], costs[_PNG]):.2f} of PNG's; {size:.1f} MB a file"
            )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def draw(folder: Path, images: int) -> dict[str, Path]:
    """The folders by kind."""
    folders = {kind: folder / kind.replace(" ", "-") for kind in (*_KINDS, _PNG)}
    for made in folders.values():
        made.mkdir(parents=True)
    values = drawn()
    for number in range(images):
        shifted = np.roll(values, 37 * number, axis=1)
        for kind, name in _KINDS.items():
            content = written(shifted, *SYNTAXES[name])
            (folders[kind] / f"{number:03}.dcm").write_bytes(content)
        decode_dicom(content, "", Limits()).pixels.save(folders[_PNG] / f"{number:03}.png", compress_level=6)
    return folders


def ratio(figures: list[float], others: list[float]) -> float:
    """The median of their ratios, round by round."""
    return statistics.median(one / other for one, other in zip(figures, others, strict=True))


def processor_seconds() -> float:
    """What this process and all below it took of the processors so far."""
    ticks = 0
    for process in family_of(os.getpid()):
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def images_per_second(fleet: LocalWorkers, ledger: Ledger, folder: Path) -> float:
    """From the beginning of the scan to the last row."""
    start = time.perf_counter()
    enqueued = enqueue(ledger, fleet.settings, Request(folder, force=True))
    found = ledger.query(runs.progress, enqueued.run.id)
    publish_chunks(fleet.settings, ledger, enqueued.run, found.chunks)
    while not found.is_complete:
        fleet.tick()
        time.sleep(0.02)
        found = ledger.query(runs.progress, enqueued.run.id)
    if found.failed:
        raise SystemExit(f"{found.failed} images failed")
    return found.images / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
