"""Many accelerators and long archives, in small; `benchmarks/fleet.py` and `archive.py` measure them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select

from db.schema import results
from tests.support.fault_runs import assert_each_once, children, draw_xrays_of, enqueue, on_postgres
from tests.support.installation import Installation
from tests.support.servers import Valkey, wait_until
from worker.queue.messages import EXPLAIN_QUEUE


def memory_of(process: int) -> float:
    """Resident memory in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1e3


@on_postgres
def test_sixteen_accelerators_share_a_folder(distributed: Installation) -> None:
    xrays = draw_xrays_of(distributed, 640, chunk_size=4)
    distributed.sabotage(explainer=0.1)
    distributed.environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(16)))
    distributed.start("worker", "--gpus", "all")
    wait_until(lambda: len(children(distributed)) == 16, 60, "sixteen workers")
    enqueue(distributed, xrays)

    distributed.wait_complete()

    assert_each_once(distributed, 640, attempts=1)
    with distributed.ledger.read() as connection:
        shares = connection.execute(select(results.c.worker, func.count()).group_by(results.c.worker)).all()
    assert len(shares) == 16
    assert max(count for _, count in shares) <= 2.5 * 640 / 16


def test_an_archive_many_times_the_queue_takes_no_more_memory(
    distributed: Installation, valkey: Valkey
) -> None:
    limit, count = 20, 6000
    xrays = draw_xrays_of(distributed, 16, chunk_size=16, max_queued_messages=limit)
    distributed.sabotage(explainer=0)
    for number in range(16, count):
        (xrays / f"image-{number:04}.png").hardlink_to(xrays / f"image-{number % 16:04}.png")
    distributed.start("worker")
    wait_until(lambda: children(distributed), 30, "a worker")
    producer = distributed.start("enqueue", xrays)
    distributed.wait_done(count // 5)
    (child,) = children(distributed)
    seen = [(memory_of(child), memory_of(producer.pid))]
    longest = 0

    while producer.poll() is None:
        longest = max(longest, valkey.client().llen(EXPLAIN_QUEUE))
        if distributed.counts()["done"] < count * 0.9:  # the producer is there still
            seen.append((memory_of(child), memory_of(producer.pid)))

    assert producer.returncode == 0
    assert limit / 2 < longest <= limit
    assert len(seen) > 5
    for first, *later in zip(*seen, strict=True):
        assert max(later) < first + 15
    distributed.wait_complete()
    assert_each_once(distributed, count, attempts=1)
