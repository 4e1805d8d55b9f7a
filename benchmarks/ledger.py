"""How many results the ledger takes a second, and how long a chunk's commit lasts.

    python -m benchmarks.ledger                                 # 16 workers, 2,000 results/s, SQLite
    python -m benchmarks.ledger --postgres                      # a Postgres of its own, fsync on
    python -m benchmarks.ledger --workers 16 --rate 2000 --seconds 30

Each worker is a process that leases chunks of 128, notes what it does and records rows as
`worker/serve/chunk.py` makes them; nothing is explained. First at the offered rate, each chunk at its time
whether the one before was late or not, then as fast as they go. `commit` is one call of `record_results`.
Workers and database share this machine, so that the second figure is also that of its processors.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.ingest import RunIngest, ScannedFile
from db.leases import Lease, PendingImage, lease_chunk, record_results
from db.ledger import Ledger
from db.migrate import migrate
from db.runs import get_run, open_run
from db.workers import register_worker, update_worker

CHUNK = 128
BATCH = 5_000
CLASSES = ("Normal", "Tuberculosis")


@dataclass(frozen=True)
class Measured:
    """Of one worker: when its first chunk began and its last one ended, seconds of each lease and commit."""

    first: float
    last: float
    leases: list[float]
    commits: list[float]
    processor: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--postgres", action="store_true", help="start a Postgres server and use that")
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2_000, help="results/s offered by all together")
    parser.add_argument("--seconds", type=float, default=30, help="how long at the offered rate")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xraycam-ledger-")))
        url = f"sqlite:///{folder / 'ledger.sqlite3'}"
        if given.postgres:
            from tests.support.servers import Postgres

            server = Postgres()
            stack.callback(server.remove)
            server.start(fsync="on")
            url = server.new_database()
        migrate(Ledger(url))
        print(f"{'':<9}{'results/s':>10}{'commit p50':>12}{'p99':>8}{'max':>8}{'lease p50':>11}{'p99':>8} ms")
        for label, rate in (("offered", given.rate), ("unpaced", 0.0)):
            # Twice the offered rate is enough work for the unpaced round's time, which then is shorter.
            chunks = int(given.rate * given.seconds / CHUNK) + 1
            run = fill(url, label, chunks * CHUNK)
            report(label, work_off(url, run, chunks, given.workers, rate))


def fill(url: str, name: str, files: int) -> int:
    """A run of so many files in the ledger; its number."""
    ledger = Ledger(url)
    run, is_new = ledger.write(
        open_run,
        root=f"/archive/{name}",
        output="/overlays",
        options={},
        model_version="first",
        pinned=False,
        chunk_size=CHUNK,
    )
    intake = RunIngest(ledger, run, is_new=is_new)
    for first in range(0, files, BATCH):
        numbers = range(first, min(first + BATCH, files))
        intake.add([ScannedFile(path_of(number), 250_000, 1_700_000_000) for number in numbers])
    intake.close()
    ledger.close()
    return run.id


def path_of(number: int) -> str:
    return f"{number // 1000:05d}/patient-{number:08d}-frontal.png"


def work_off(url: str, run: int, chunks: int, workers: int, rate: float) -> list[Measured]:
    """Have the workers do a run; `rate`: results/s of all together, 0: as fast as they go."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    calls = [(url, run, range(worker + 1, chunks + 1, workers), rate) for worker in range(workers)]
    with context.Pool(workers, keep, (barrier,)) as pool:
        return pool.starmap(work, calls, chunksize=1)


def keep(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


_barrier: Any = None


def work(url: str, run: int, numbers: range, rate: float) -> Measured:
    """One worker: its chunks, each at its time."""
    name = f"explain-gpu{numbers.start}-4711@node"
    ledger = Ledger(url)
    ledger.write(register_worker, name=name, host="node", pid=4711, device="gpu0", queues="explain")
    _barrier.wait()
    start, start_processor = time.perf_counter(), time.process_time()
    first, leases, commits = start, [], []
    for number in numbers:
        if rate:
            time.sleep(max(0.0, start + number * CHUNK / rate - time.perf_counter()))
        begin = time.perf_counter()
        lease = ledger.write(lease_chunk, run, number, name, 60.0)
        leases.append(time.perf_counter() - begin)
        assert isinstance(lease, Lease)
        assert ledger.query(get_run, run).state == "open"
        ledger.write(
            update_worker, name, activity=f"run {run}, chunk {number}", model_version="first", last_error=None
        )
        rows = [row_of(image, name) for image in lease.images]
        begin = time.perf_counter()
        ledger.write(record_results, lease, rows)
        commits.append(time.perf_counter() - begin)
    return Measured(first, time.perf_counter(), leases, commits, time.process_time() - start_processor)


def row_of(image: PendingImage, worker: str) -> dict[str, Any]:
    """As `worker/serve/chunk.py` makes it."""
    probability = 0.5 + image.id % 997 / 2_000
    second = CLASSES[image.id % 2]
    return {
        "image_id": image.id,
        "status": "done",
        "sha256": f"{image.id:064x}",
        "width": 512,
        "height": 512,
        "class": second,
        "probability": probability,
        "probabilities": {CLASSES[1 - image.id % 2]: 1 - probability, second: probability},
        "target_class": second,
        "logit": probability * 7,
        "heatmap_max": {"block_15_add": probability * 3},
        "blank": False,
        "cam_border_fraction": probability / 2,
        "cam_corner_fraction": probability / 4,
        "cam_mask_fraction": None,
        "overlay": f"/overlays/run-000001/{image.path}.jpg",
        "heatmap": None,
        "attempts": 1,
        "layer": "block_15_add",
        "method": "gradcam",
        "model_version": "first",
        "worker": worker,
    }


def report(label: str, measured: list[Measured]) -> None:
    commits = sorted(second for one in measured for second in one.commits)
    leases = sorted(second for one in measured for second in one.leases)
    seconds = max(one.last for one in measured) - min(one.first for one in measured)
    figures = (
        statistics.median(commits),
        at(commits, 0.99),
        commits[-1],
        statistics.median(leases),
        at(leases, 0.99),
    )
    places = "".join(
        f"{figure * 1000:>{width}.1f}" for figure, width in zip(figures, (12, 8, 8, 11, 8), strict=True)
    )
    print(
        f"{label:<9}{len(commits) * CHUNK / seconds:>10,.0f}{places}      workers' processor time "
        f"{sum(one.processor for one in measured) / seconds:.2f} of {seconds:.1f} s",
        flush=True,
    )


def at(values: list[float], share: float) -> float:
    """The value below which so much of the sorted `values` lies."""
    return values[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    main()
