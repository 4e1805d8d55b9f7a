"""Chunks nobody works on: found by the database's clock, each given to one reaper."""

from __future__ import annotations

from sqlalchemy import Connection, update

from db.dialect import now
from db.leases import (
    LeaseDenied,
    ReclaimedChunks,
    claim_unpublished,
    lease_chunk,
    mark_published,
    reclaim_expired,
    reclaim_from_worker,
)
from db.ledger import Ledger
from db.runs import CANCELLED, Run, set_state
from db.schema import chunks, runs
from tests.support.concurrency import at_once
from tests.support.made_runs import finish, lease, some_files, take


def claim(url: str) -> list[int]:
    ledger = Ledger(url)
    found = claim_unpublished(ledger, 30.0, limit=1000)
    ledger.close()
    return [number for idle in found for number in idle.numbers]


def let_pass(ledger: Ledger, seconds: float) -> None:
    """What the passing of time does."""

    def work(connection: Connection) -> None:
        leased, sent = chunks.c.owner.is_not(None), chunks.c.published_at.is_not(None)
        connection.execute(update(chunks).where(leased).values(lease_expires_at=now(-0.1)))
        connection.execute(update(chunks).where(sent).values(published_at=now(-seconds)))
        connection.execute(update(runs).values(scanned_at=now(-seconds)))

    ledger.write(work)


def test_chunk_whose_lease_ended_is_freed_once(ledger: Ledger, run_of_ten: Run) -> None:
    lease(ledger, run_of_ten, 2, "one")
    assert reclaim_expired(ledger) == []
    let_pass(ledger, 60)
    assert reclaim_expired(ledger) == [ReclaimedChunks(run_of_ten.id, "/archive", 3, (2,))]
    assert reclaim_expired(ledger) == []
    assert [image.attempts for image in lease(ledger, run_of_ten, 2, "two").images] == [1] * 4


def test_chunks_of_a_dead_worker_are_freed_before_their_lease_ends(ledger: Ledger, run_of_ten: Run) -> None:
    lease(ledger, run_of_ten, 1, "one")
    lease(ledger, run_of_ten, 3, "two")
    assert [idle.numbers for idle in reclaim_from_worker(ledger, "one")] == [(1,)]
    assert ledger.write(lease_chunk, run_of_ten.id, 3, "one", 60) is LeaseDenied.HELD
    assert reclaim_from_worker(ledger, "one") == []


def test_messages_never_sent_or_lost_are_sent_again(ledger: Ledger, run_of_ten: Run) -> None:
    ledger.write(mark_published, run_of_ten.id, [1])
    assert claim_unpublished(ledger, 30.0) == []
    let_pass(ledger, 31)
    lease(ledger, run_of_ten, 2)
    assert [idle.numbers for idle in claim_unpublished(ledger, 30.0)] == [(1, 3)]
    assert claim_unpublished(ledger, 30.0) == []


def test_finished_and_cancelled_chunks_are_left_alone(ledger: Ledger, run_of_ten: Run) -> None:
    finish(ledger, lease(ledger, run_of_ten, 1))
    lease(ledger, run_of_ten, 2)
    let_pass(ledger, 60)
    ledger.write(set_state, run_of_ten.id, CANCELLED)
    assert reclaim_expired(ledger) == claim_unpublished(ledger, 30.0) == []


def test_six_reapers_at_once_share_the_chunks(ledger: Ledger) -> None:
    take(ledger, some_files(60), chunk_size=2, batch=100)
    let_pass(ledger, 60)
    url = ledger.url.render_as_string(hide_password=False)
    claimed = at_once(claim, [(url,)] * 6)
    assert sorted(number for numbers in claimed for number in numbers) == list(range(1, 31))
