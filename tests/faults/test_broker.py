"""The broker dies, forgets everything, or is full; the ledger knows what is left to do."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests.support.fault_runs import (
    NoteFault,
    assert_each_once,
    children,
    draw_xrays_of,
    enqueue,
    on_postgres,
    run_under_way,
    seconds_until_more_done,
)
from tests.support.installation import Installation, children_of, draw_many
from tests.support.servers import Valkey, wait_until
from worker.queue.messages import EXPLAIN_QUEUE


@on_postgres
def test_killed_broker_comes_back_and_the_run_completes_by_itself(
    distributed: Installation, xrays: Path, valkey: Valkey, note_fault: NoteFault
) -> None:
    run_under_way(distributed, xrays)

    valkey.kill()
    said = distributed.xraycam("watch", "--once").stdout
    time.sleep(2)
    valkey.start()

    seconds = seconds_until_more_done(distributed)
    distributed.wait_complete()
    assert_each_once(distributed)
    assert "does not answer" in said
    assert "continues by itself" in said
    note_fault(
        "broker killed, 2 s later started again (append-only file)",
        "workers connect again; `watch` says that the broker does not answer",
        seconds,
        "after it was back",
    )


@on_postgres
def test_wiped_broker_is_refilled_by_the_workers_themselves(
    distributed: Installation, xrays: Path, valkey: Valkey, note_fault: NoteFault
) -> None:
    run_under_way(distributed, xrays)

    valkey.client().flushall()

    wait_until(
        lambda: "workers re-queue what is missing" in distributed.xraycam("watch", "--once").stdout,
        20,
        "watch says how it continues",
    )
    start = time.monotonic()
    distributed.wait_complete()
    assert_each_once(distributed)
    note_fault(
        "broker wiped (FLUSHALL)",
        "half a minute later a launcher finds chunks but no message, and sends them again; `watch` says so, "
        "and that `xraycam resume` does it at once",
        time.monotonic() - start,
        "until the run was complete",
    )


def test_wiped_broker_without_workers_is_refilled_as_watch_says(
    distributed: Installation, xrays: Path, valkey: Valkey
) -> None:
    enqueue(distributed, xrays)
    valkey.client().flushall()

    said = distributed.xraycam("watch", "--once").stdout

    assert "no worker is alive: start 'xraycam worker', then 'xraycam resume 1'" in said
    distributed.start("worker")
    distributed.xraycam("resume", 1)
    distributed.wait_complete()
    assert_each_once(distributed)


def test_full_broker_makes_the_producer_wait_and_workers_survive(
    distributed: Installation, valkey: Valkey, note_fault: NoteFault
) -> None:
    xrays = draw_xrays_of(distributed, 400, chunk_size=1)
    worker = distributed.start("worker")
    wait_until(lambda: children(distributed), 30, "a worker")
    time.sleep(2)
    before = children(distributed)
    client = valkey.client()
    # No room for anything: every push is refused.
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")
    try:
        producer = distributed.start("enqueue", xrays)
        with pytest.raises(subprocess.TimeoutExpired):
            producer.wait(10)
        assert client.llen(EXPLAIN_QUEUE) == 0
        assert children(distributed) == before
        assert worker.poll() is None
    finally:
        client.config_set("maxmemory", "0")

    start = time.monotonic()
    assert producer.wait(60) == 0
    seconds = time.monotonic() - start
    distributed.wait_complete()
    assert_each_once(distributed, 400)
    note_fault(
        "broker full (`maxmemory`, `noeviction`) while a folder is enqueued",
        "`enqueue` waits, the workers stay",
        seconds,
        "after there was room",
    )


def test_broker_that_fills_up_in_mid_run_loses_nothing(
    distributed: Installation, xrays: Path, valkey: Valkey, note_fault: NoteFault
) -> None:
    run_under_way(distributed, xrays)
    client = valkey.client()
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", "1")
    before = children(distributed)
    try:
        time.sleep(8)
    finally:
        client.config_set("maxmemory", "0")

    seconds = seconds_until_more_done(distributed)
    assert children(distributed) != before
    distributed.wait_complete()
    assert_each_once(distributed)
    note_fault(
        "broker full for 8 s in mid-run",
        "a worker that cannot talk to it ends and is started again; a message lost with it is sent again",
        seconds,
        "after there was room",
    )


def test_private_broker_killed_in_mid_run_is_started_again(
    installation: Installation, note_fault: NoteFault
) -> None:
    installation.set(chunk_size=8)
    installation.sabotage(explainer=0.01)
    xrays = draw_many(installation.folder / "xrays", 300)
    run = installation.start("run", xrays)
    wait_until(lambda: installation.home.exists() and installation.some_done(16), 60, "some images done")
    (server,) = children_of(installation.processes(), "valkey-server")

    installation.kill(server)

    seconds = seconds_until_more_done(installation)
    assert run.wait(120) == 0
    assert_each_once(installation, 300)
    note_fault(
        "private broker of `xraycam run` killed", "`run` starts another and sends what is left", seconds
    )
