"""How much of sixteen times the throughput sixteen accelerators give, on one Postgres and one Valkey.

    python -m benchmarks.fleet                                   # 16 accelerators of 20 images/s
    python -m benchmarks.fleet --accelerators 16 --speed 50

The accelerators are stand-ins that sleep; all else is real: `xraycam worker` with a process per device,
messages, leases, decoding, drawing and writing of (very small) images, commits. The machine's processors do
all of that for the whole fleet, which sets a limit to the speed at which coordination can be measured on it.
Fleets of one and of all are measured in turn, from the first message to the last row, workers ready.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import click

from benchmarks.stand_in_fleet import StandInFleet, link_images, stand_in_fleet
from db import runs
from producer.enqueue import Request, enqueue
from producer.publish import publish_chunks

CHUNK = 32
CHUNKS_EACH = 10


@click.command()
@click.option("--accelerators", default=16, show_default=True)
@click.option("--speed", default=20.0, show_default=True, help="Images/s of one accelerator.")
@click.option("--pairs", default=3, show_default=True, help="How often both are measured.")
def main(accelerators: int, speed: float, pairs: int) -> None:
    """Measure a fleet of simulated accelerators against one of them."""
    with (
        tempfile.TemporaryDirectory(prefix="xraycam-fleet-") as folder,
        stand_in_fleet(Path(folder), postgres=True, chunk_size=str(CHUNK)) as fleet,
    ):
        few = link_images(Path(folder) / "few", CHUNK * CHUNKS_EACH)
        many = link_images(Path(folder) / "many", CHUNK * CHUNKS_EACH * accelerators)
        print(f"pair  1 accelerator  {accelerators} accelerators  of linear")
        ratios = []
        for pair in range(1, pairs + 1):
            with fleet.workers(1, 1 / speed):
                alone = images_per_second(fleet, few)
            with fleet.workers(accelerators, 1 / speed):
                together = images_per_second(fleet, many)
            ratios.append(together / alone / accelerators)
            print(f"{pair:4}{alone:15.1f}{together:17.1f}{ratios[-1]:11.3f}", flush=True)
        print(f"median of linear {statistics.median(ratios):.3f}")


def images_per_second(fleet: StandInFleet, folder: Path) -> float:
    enqueued = enqueue(fleet.ledger, fleet.settings, Request(folder, force=True))
    found = fleet.ledger.query(runs.progress, enqueued.run.id)
    start = time.perf_counter()
    publish_chunks(fleet.settings, fleet.ledger, enqueued.run, found.chunks)
    while not found.is_complete:
        time.sleep(0.05)
        found = fleet.ledger.query(runs.progress, enqueued.run.id)
    seconds = time.perf_counter() - start
    assert found.done == found.images, f"{found.failed} images failed"
    return found.images / seconds


if __name__ == "__main__":
    main()
