"""SIGTERM or Ctrl-C, to each command in each stage: a clean end, and the work resumes where it stopped.

One handler answers both; only before it is there does Python treat them differently.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from db.schema import chunks, images, results, runs
from tests.support.fault_runs import (
    IMAGES,
    NoteFault,
    assert_each_once,
    children,
    draw_xrays_of,
    enqueue,
    leased_chunks,
)
from tests.support.installation import Installation, command_of
from tests.support.servers import Valkey, wait_until
from worker.queue.messages import EXPLAIN_QUEUE

Stage = Callable[[Installation], object]

TERM, INT = signal.SIGTERM, signal.SIGINT


def state(installation: Installation) -> str | None:
    with installation.ledger.read() as connection:
        return connection.execute(select(runs.c.state).where(runs.c.id == 1)).scalar()


def started(installation: Installation) -> bool:
    return bool(installation.processes())


def scanning(installation: Installation) -> bool:
    """The folder is being listed: see `slow_scan`."""
    return (installation.folder / "listing").exists()


def slow_scan(installation: Installation) -> None:
    installation.sabotage(scan=0.1, listing=installation.folder / "listing")  # 30 s for 300 files


def starting_workers(installation: Installation) -> bool:
    return state(installation) == "open" and any(
        "worker.supervisor.worker_process" in command_of(process) for process in installation.processes()
    )


def explaining(installation: Installation) -> bool:
    return installation.some_done(16) and bool(leased_chunks(installation))


def assert_stopped(
    process: subprocess.Popen[str], number: signal.Signals, stage: Stage | None = None
) -> None:
    """Ended as Ctrl-C ends a command; by the signal itself only where Python had hardly started, and with 1
    where it was just importing `site`, which Python reports as an error of its own."""
    assert process.wait(40) in ((130, -number, 1) if stage is started else (130,))


def assert_clean(installation: Installation) -> None:
    """No process left, no half-written file, no chunk held, no image blamed."""
    wait_until(lambda: not installation.processes(), 15, "no process left")
    assert not list(installation.home.glob("overlays/**/.unfinished-*"))
    with installation.ledger.read() as connection:
        assert not connection.execute(select(chunks.c.number).where(chunks.c.owner.is_not(None))).all()
        pending = connection.execute(
            select(images.c.attempts)
            .outerjoin(results, results.c.image_id == images.c.id)
            .where(results.c.image_id.is_(None))
        ).scalars()
        assert set(pending) <= {0}
    said = (installation.folder / "stderr.txt").read_text()
    # Python's own words where it was interrupted while it started, before any code of ours.
    assert "Traceback" not in said or "Fatal Python error: init_" in said


@pytest.mark.parametrize(
    ("stage", "number"),
    [(started, TERM), (started, INT), (scanning, INT), (starting_workers, TERM), (explaining, INT)],
)
def test_run_stopped(installation: Installation, number: signal.Signals, stage: Stage) -> None:
    xrays = draw_xrays_of(installation)
    if stage is scanning:
        slow_scan(installation)
    process = installation.start("run", xrays)
    wait_until(lambda: stage(installation), 30, stage.__name__)

    process.send_signal(number)

    assert_stopped(process, number, stage)
    assert_clean(installation)
    assert installation.counts().get("done", 0) < IMAGES
    installation.sabotage(scan=0)
    installation.xraycam("run", xrays)
    assert_each_once(installation, attempts=1)


def test_enqueue_stopped_while_the_queue_is_full(
    distributed: Installation, valkey: Valkey, note_fault: NoteFault
) -> None:
    xrays = draw_xrays_of(distributed, max_queued_messages=10)
    process = distributed.start("enqueue", xrays)
    wait_until(lambda: valkey.client().llen(EXPLAIN_QUEUE) == 10, 30, "a full queue")

    process.send_signal(TERM)

    assert_stopped(process, TERM)
    assert "'xraycam resume 1' sends the rest" in (distributed.folder / "stderr.txt").read_text()
    assert_clean(distributed)
    distributed.start("worker")
    distributed.xraycam("resume", 1)
    distributed.wait_complete()
    assert_each_once(distributed, attempts=1)
    note_fault(
        "`run` or `enqueue` stopped (SIGTERM, Ctrl-C) in any stage",
        "a clean end; `resume`, or in the middle of the scan the same command, continues it",
        None,
    )


@pytest.mark.parametrize(
    "point",
    [
        "return RunIngest.close 1",
        "call create_celery_app 1",
        "call send_chunks 1",
        "return mark_published 1",
        # Python drops a KeyboardInterrupt that is raised in a finalizer.
        "call Redis.__del__ 1",
        "call Redis.__del__ 6",
    ],
)
def test_enqueue_interrupted_after_its_scan_ends_wherever_it_is(
    distributed: Installation, point: str
) -> None:
    xrays = draw_xrays_of(distributed, max_queued_messages=10)
    distributed.sabotage(signal=point)
    process = distributed.start("enqueue", xrays)
    assert process.wait(60) == 130
    said = (distributed.folder / "stderr.txt").read_text()
    assert "sends the rest" in said or "the same command continues it" in said


@pytest.mark.parametrize(("stage", "number"), [(started, TERM), (scanning, INT)])
def test_enqueue_stopped_before_it_sends(
    distributed: Installation, number: signal.Signals, stage: Stage
) -> None:
    xrays = draw_xrays_of(distributed)
    slow_scan(distributed)
    process = distributed.start("enqueue", xrays)
    wait_until(lambda: stage(distributed), 30, stage.__name__)

    process.send_signal(number)

    assert_stopped(process, number, stage)
    if stage is scanning:
        assert "the same command continues it" in (distributed.folder / "stderr.txt").read_text()
    distributed.sabotage(scan=0)
    distributed.start("worker")
    enqueue(distributed, xrays)
    distributed.wait_complete()
    assert_each_once(distributed, attempts=1)


def test_watch_stopped(distributed: Installation) -> None:
    """By SIGTERM; `tests/system/test_distributed.py` has Ctrl-C."""
    xrays = draw_xrays_of(distributed)
    enqueue(distributed, xrays)
    watch = distributed.start("watch", 1)
    with pytest.raises(subprocess.TimeoutExpired):
        watch.wait(0.7)

    watch.send_signal(TERM)

    assert_stopped(watch, TERM)
    assert_clean(distributed)
    distributed.start("worker")
    distributed.wait_complete()
    assert_each_once(distributed, attempts=1)


@pytest.mark.parametrize(("stage", "number"), [(started, TERM), (children, INT), (explaining, TERM)])
def test_worker_stopped(
    distributed: Installation, valkey: Valkey, number: signal.Signals, stage: Stage, note_fault: NoteFault
) -> None:
    xrays = draw_xrays_of(distributed)
    enqueue(distributed, xrays)
    worker = distributed.start("worker")
    wait_until(lambda: stage(distributed), 30, stage.__name__)

    worker.send_signal(number)

    # Told to stop, a worker that serves ends well; one that only starts, as other commands do.
    assert worker.wait(40) in ((0, 130, -number, 1) if stage is started else (0,))
    assert_clean(distributed)
    assert distributed.counts().get("done", 0) < IMAGES
    assert valkey.client().llen(EXPLAIN_QUEUE) > 0
    distributed.start("worker")
    distributed.wait_complete()
    assert_each_once(distributed, attempts=1)
    note_fault(
        "worker stopped (SIGTERM, Ctrl-C)", "it finishes its chunk or gives it back; no image is blamed", None
    )


def test_worker_told_to_stop_twice_still_ends_cleanly(distributed: Installation) -> None:
    xrays: Path = draw_xrays_of(distributed)
    enqueue(distributed, xrays)
    worker = distributed.start("worker")
    wait_until(lambda: explaining(distributed), 30, "explaining")
    worker.send_signal(INT)
    worker.send_signal(INT)
    assert worker.wait(40) == 0
    assert_clean(distributed)
