"""Workers, launchers and whole machines are killed; every image still ends in exactly one row."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.fault_runs import (
    IMAGES,
    NoteFault,
    assert_each_once,
    children,
    enqueue,
    leased_chunks,
    lose_machine,
    nodes,
    on_postgres,
    run_under_way,
    seconds_until_finished,
)
from tests.support.installation import Installation, draw_many
from tests.support.servers import wait_until


def test_killed_worker_child_is_replaced_and_its_chunk_done_again(
    distributed: Installation, note_fault: NoteFault
) -> None:
    """With the real network, whose loading takes the new child as long as it does."""
    distributed.set(chunk_size=8, lease_timeout=5)
    distributed.sabotage(seconds=0.01)
    xrays = draw_many(distributed.folder / "xrays", IMAGES)
    run_under_way(distributed, xrays)
    wait_until(lambda: leased_chunks(distributed), 30, "a leased chunk")
    held = leased_chunks(distributed)
    (child,) = children(distributed)

    distributed.kill(child)

    seconds = seconds_until_finished(distributed, held)
    distributed.wait_complete()
    assert_each_once(distributed)
    note_fault(
        "process that holds the model killed (SIGKILL)",
        "Celery replaces it and delivers its message again; the new one takes its lease over",
        seconds,
        "with the loading of the model",
    )


def test_killed_worker_process_is_restarted_by_its_launcher(
    distributed: Installation, xrays: Path, note_fault: NoteFault
) -> None:
    run_under_way(distributed, xrays)
    wait_until(lambda: leased_chunks(distributed), 30, "a leased chunk")
    held = leased_chunks(distributed)
    (node,) = nodes(distributed)

    distributed.kill(node)

    seconds = seconds_until_finished(distributed, held)
    distributed.wait_complete()
    assert_each_once(distributed)
    note_fault(
        "worker killed, parent and child",
        "its launcher sends what it held again at once, and starts another",
        seconds,
    )


def test_fleet_finishes_what_a_machine_that_vanished_held(
    distributed: Installation, xrays: Path, note_fault: NoteFault
) -> None:
    distributed.sabotage(explainer=0.05)
    doomed = distributed.start("worker")
    distributed.start("worker")
    enqueue(distributed, xrays)

    seconds = lose_machine(distributed, doomed.pid)

    assert distributed.counts()["done"] < IMAGES, "before what waited"
    distributed.wait_complete()
    assert_each_once(distributed)
    note_fault(
        "machine gone: launcher and all workers killed together",
        "its leases end (here after 5 s); another machine's launcher sends its chunks first",
        seconds,
    )


@on_postgres
def test_whole_fleet_killed_then_worker_and_resume_complete_the_run(
    distributed: Installation, xrays: Path, note_fault: NoteFault
) -> None:
    run_under_way(distributed, xrays)
    wait_until(lambda: leased_chunks(distributed), 30, "a leased chunk")
    held = leased_chunks(distributed)

    for process in distributed.processes():
        distributed.kill(process)
    wait_until(lambda: not distributed.processes(), 10, "all dead")
    assert distributed.counts()["done"] < IMAGES

    start = time.monotonic()
    distributed.start("worker")
    distributed.xraycam("resume", 1)
    seconds_until_finished(distributed, held)
    seconds = time.monotonic() - start
    distributed.wait_complete()
    assert_each_once(distributed)
    note_fault(
        "every machine gone",
        "a worker that starts gives back what dead ones of its machine held; `xraycam resume` sends the rest",
        seconds,
        "after a worker was started",
    )


def test_workers_end_when_their_launcher_is_killed(
    distributed: Installation, xrays: Path, note_fault: NoteFault
) -> None:
    launcher = distributed.start("worker")
    enqueue(distributed, xrays)
    distributed.wait_done(8)

    launcher.kill()

    wait_until(lambda: not distributed.processes(), 30, "no orphan")
    distributed.start("worker")
    distributed.wait_complete()
    assert_each_once(distributed, attempts=1)
    note_fault("launcher killed alone", "its workers finish their chunk and end; no orphan is left", None)
