"""The database is away or locked for ten seconds; workers and watchers wait for it."""

from __future__ import annotations

import sqlite3
import time

from tests.support.fault_runs import (
    NoteFault,
    assert_each_once,
    draw_xrays_of,
    on_postgres,
    run_under_way,
    seconds_until_more_done,
)
from tests.support.installation import Installation
from tests.support.servers import Postgres, wait_until

OUTAGE_SECONDS = 10.0


@on_postgres
def test_postgres_stopped_for_ten_seconds(
    distributed: Installation, postgres: Postgres, note_fault: NoteFault
) -> None:
    xrays = draw_xrays_of(distributed)
    run_under_way(distributed, xrays)
    watch = distributed.start("watch", 1)
    # A connection alone may still be in its handshake: a database that never answered is refused in 5 s.
    told = distributed.folder / "stderr.txt"
    wait_until(lambda: "run 1: explaining" in told.read_text(), 30, "watch reads the ledger")

    postgres.stop()
    time.sleep(OUTAGE_SECONDS)
    postgres.start()

    seconds = seconds_until_more_done(distributed)
    distributed.wait_complete()
    assert_each_once(distributed, attempts=2)
    assert watch.wait(60) == 0, distributed.logs()
    note_fault(
        "Postgres stopped for 10 s, every session broken",
        "workers and `watch` try again until it is back",
        seconds,
        "after it was back",
    )


def test_sqlite_locked_for_ten_seconds(distributed: Installation, note_fault: NoteFault) -> None:
    xrays = draw_xrays_of(distributed)
    run_under_way(distributed, xrays)
    other = sqlite3.connect(distributed.home / "ledger.sqlite3", isolation_level=None, timeout=30)

    other.execute("BEGIN IMMEDIATE")
    time.sleep(OUTAGE_SECONDS)
    other.execute("COMMIT")
    other.close()

    seconds = seconds_until_more_done(distributed)
    distributed.wait_complete()
    assert_each_once(distributed, attempts=2)
    note_fault("SQLite locked by another program for 10 s", "writers wait", seconds, "after it was free")
