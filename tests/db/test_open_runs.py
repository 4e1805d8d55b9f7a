"""What is left to do, and which leases were lost, for those who watch over the fleet."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import text

from db.leases import reclaim_from_worker, release_lease, release_leases_of
from db.ledger import Ledger
from db.runs import (
    CANCELLED,
    OPEN,
    STOPPED,
    Progress,
    Run,
    get_run,
    open_progress,
    progress,
    set_state,
    shown_state,
)
from tests.support.made_runs import finish, lease, some_files, take

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_leases_that_were_given_back_are_not_lost(ledger: Ledger, run_of_ten: Run) -> None:
    ledger.write(release_lease, lease(ledger, run_of_ten, 1), "one")
    lease(ledger, run_of_ten, 1)
    assert ledger.write(release_leases_of, "one", refund_attempts=True) == 1
    assert ledger.query(progress, run_of_ten.id).expired_leases == 0
    finish(ledger, lease(ledger, run_of_ten, 1))
    lease(ledger, run_of_ten, 2)
    assert ledger.query(progress, run_of_ten.id).expired_leases == 0


def test_leases_of_dead_and_silent_workers_are_lost_each_once(ledger: Ledger, run_of_ten: Run) -> None:
    lease(ledger, run_of_ten, 1)
    assert ledger.write(release_leases_of, "one") == 1
    lease(ledger, run_of_ten, 2, "two")
    reclaim_from_worker(ledger, "two")
    lease(ledger, run_of_ten, 3, "three", seconds=-1.0)
    assert ledger.query(progress, run_of_ten.id).expired_leases == 3
    for number in (1, 2, 3):
        finish(ledger, lease(ledger, run_of_ten, number, "four"))
    assert ledger.query(progress, run_of_ten.id).expired_leases == 3


def test_runs_with_work_left_are_counted(ledger: Ledger, run_of_ten: Run) -> None:
    done, _ = take(ledger, some_files(4), root="/done")
    finish(ledger, lease(ledger, done, 1))
    cancelled, _ = take(ledger, some_files(4), root="/cancelled")
    ledger.write(set_state, cancelled.id, CANCELLED)
    finish(ledger, lease(ledger, run_of_ten, 1), "failed", reason="empty")
    lease(ledger, run_of_ten, 2)
    assert ledger.query(open_progress) == {
        run_of_ten.id: Progress(
            images=10, done=0, failed=4, chunks=3, finished_chunks=1, leased_chunks=1, expired_leases=0
        )
    }
    assert ledger.query(progress, run_of_ten.id) == ledger.query(open_progress)[run_of_ten.id]


def test_sql_to_scale_by_in_the_readme_counts_what_waits(ledger: Ledger, run_of_ten: Run) -> None:
    (statement,) = re.findall(r"```sql\n(.*)\n```", README)

    def backlog() -> int:
        with ledger.read() as connection:
            return int(connection.execute(text(statement)).scalar_one())

    assert backlog() == 10
    finish(ledger, lease(ledger, run_of_ten, 1))
    other, _ = take(ledger, some_files(3), root="/other")
    assert backlog() == 9
    ledger.write(set_state, other.id, CANCELLED)
    finish(ledger, lease(ledger, run_of_ten, 2))
    finish(ledger, lease(ledger, run_of_ten, 3))
    assert backlog() == 0


def test_a_run_whose_last_chunk_ended_after_it_was_stopped_is_complete(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(1))
    held = lease(ledger, run, 1)
    for state, shown in ((OPEN, "open"), (STOPPED, "stopped"), (CANCELLED, "cancelled")):
        ledger.write(set_state, run.id, state)
        assert shown_state(ledger.query(get_run, run.id), ledger.query(progress, run.id)) == shown
    finish(ledger, held)
    for state, shown in ((OPEN, "complete"), (STOPPED, "complete"), (CANCELLED, "cancelled")):
        ledger.write(set_state, run.id, state)
        assert shown_state(ledger.query(get_run, run.id), ledger.query(progress, run.id)) == shown
