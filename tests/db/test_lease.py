"""Leasing chunks: one owner at a time, by the database's clock, attempts counted."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import select, update

from db.dialect import now
from db.leases import (
    Lease,
    LeaseDenied,
    increment_attempts,
    lease_chunk,
    lease_following,
    mark_published,
    record_results,
    release_lease,
    release_leases_of,
    renew_lease,
    unfinished_chunks,
)
from db.ledger import Ledger
from db.runs import CANCELLED, Run, progress, set_state
from db.schema import chunks
from tests.support.concurrency import at_once
from tests.support.made_runs import finish, lease, some_files, take


def try_to_lease(url: str, run_id: int, owner: str) -> bool:
    ledger = Ledger(url)
    found = ledger.write(lease_chunk, run_id, 1, owner, 60.0)
    ledger.close()
    return isinstance(found, Lease)


def attempts(found: Lease) -> list[int]:
    return [image.attempts for image in found.images]


def end_lease(ledger: Ledger, number: int) -> None:
    """What the passing of time does."""
    ledger.write(
        lambda connection: connection.execute(
            update(chunks).where(chunks.c.number == number).values(lease_expires_at=now(-0.5))
        )
    )


def test_chunk_is_leased_with_its_images(ledger: Ledger, run_of_ten: Run) -> None:
    found = lease(ledger, run_of_ten, 3)
    assert (found.run_id, found.number) == (run_of_ten.id, 3)
    assert [image.path for image in found.images] == ["ward/x0008.png", "ward/x0009.png"]
    assert attempts(found) == [0, 0]


def test_chunk_of_another_owner_is_refused_until_its_lease_ends(ledger: Ledger, run_of_ten: Run) -> None:
    lease(ledger, run_of_ten, 1, "one")
    assert ledger.write(lease_chunk, run_of_ten.id, 1, "two", 60) is LeaseDenied.HELD
    end_lease(ledger, 1)
    assert isinstance(ledger.write(lease_chunk, run_of_ten.id, 1, "two", 60), Lease)
    assert ledger.write(lease_chunk, run_of_ten.id, 1, "one", 60) is LeaseDenied.HELD


def test_lease_ends_by_itself(ledger: Ledger, run_of_ten: Run) -> None:
    lease(ledger, run_of_ten, 1, "one", seconds=2)
    assert ledger.query(progress, run_of_ten.id).leased_chunks == 1
    time.sleep(2.1)
    assert ledger.query(progress, run_of_ten.id).leased_chunks == 0
    lease(ledger, run_of_ten, 1, "two")


def test_one_of_six_who_lease_at_once_gets_the_chunk(ledger: Ledger, run_of_ten: Run) -> None:
    url = ledger.url.render_as_string(hide_password=False)
    owners = [f"worker {number}" for number in range(6)]
    assert sum(at_once(try_to_lease, [(url, run_of_ten.id, owner) for owner in owners])) == 1


def test_lease_is_renewed_by_its_owner_alone(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1, "one")
    end_lease(ledger, 1)
    assert ledger.write(renew_lease, held, "two", 60) is False
    assert ledger.write(renew_lease, held, "one", 60) is True
    assert ledger.write(lease_chunk, run_of_ten.id, 1, "two", 60) is LeaseDenied.HELD


def test_lease_taken_by_another_is_not_renewed(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1, "one")
    end_lease(ledger, 1)
    lease(ledger, run_of_ten, 1, "two")
    assert ledger.write(renew_lease, held, "one", 60) is False


def test_chunk_of_a_cancelled_run_is_neither_leased_nor_renewed(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    ledger.write(set_state, run_of_ten.id, CANCELLED)
    assert ledger.write(renew_lease, held, "one", 60) is False
    assert ledger.write(lease_chunk, run_of_ten.id, 1, "one", 60) is LeaseDenied.CANCELLED
    assert ledger.write(lease_chunk, run_of_ten.id, 2, "one", 60) is LeaseDenied.CANCELLED


def test_finished_and_unknown_chunks_are_refused(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    finish(ledger, held)
    assert ledger.write(lease_chunk, run_of_ten.id, 1, "one", 60) is LeaseDenied.FINISHED
    assert ledger.write(renew_lease, held, "one", 60) is False
    assert ledger.write(lease_chunk, run_of_ten.id, 99, "one", 60) is LeaseDenied.UNKNOWN
    assert ledger.write(lease_chunk, 99, 1, "one", 60) is LeaseDenied.UNKNOWN


def test_only_images_without_a_result_are_leased_again(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    ledger.write(record_results, held, [{"image_id": held.images[0].id, "status": "done"}])
    again = lease(ledger, run_of_ten, 1)
    assert again.images == tuple(type(image)(image.id, image.path, attempts=1) for image in held.images[1:])


def test_owner_that_died_is_known_by_the_attempts(ledger: Ledger, run_of_ten: Run) -> None:
    assert attempts(lease(ledger, run_of_ten, 1, "one")) == [0] * 4
    # The same owner again: its earlier process is dead.
    taken_over = lease(ledger, run_of_ten, 1, "one")
    assert attempts(taken_over) == [1] * 4
    # Attempts made together are counted once; those alone, each as it starts.
    assert attempts(lease(ledger, run_of_ten, 1, "one")) == [1] * 4
    assert ledger.write(increment_attempts, taken_over.images[2].id) == 2
    again = lease(ledger, run_of_ten, 1, "one")
    assert attempts(again) == [1, 1, 1, 2]
    assert again.images[-1] == type(again.images[-1])(
        taken_over.images[2].id, taken_over.images[2].path, attempts=2
    )


def test_lease_given_back_costs_no_attempt(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1, "one")
    ledger.write(release_lease, held, "two")
    assert ledger.write(lease_chunk, run_of_ten.id, 1, "two", 60) is LeaseDenied.HELD
    ledger.write(release_lease, held, "one")
    assert attempts(lease(ledger, run_of_ten, 1, "two")) == [0] * 4


def test_lease_given_back_keeps_attempts_counted_before(ledger: Ledger, run_of_ten: Run) -> None:
    lease(ledger, run_of_ten, 1, "one")
    held = lease(ledger, run_of_ten, 1, "one")
    ledger.write(release_lease, held, "one")
    assert attempts(lease(ledger, run_of_ten, 1, "two")) == [1] * 4


def test_lease_given_back_takes_back_the_attempt_alone(ledger: Ledger, run_of_ten: Run) -> None:
    """As where the disk is found full while an image is tried alone."""
    lease(ledger, run_of_ten, 1, "one", -1.0)
    held = lease(ledger, run_of_ten, 1, "one")
    ledger.write(increment_attempts, held.images[0].id)
    ledger.write(release_lease, held, "one")
    assert attempts(lease(ledger, run_of_ten, 1, "two")) == attempts(held)


@pytest.mark.parametrize(("refund_attempts", "counted"), [(False, 1), (True, 0)])
def test_everything_of_an_owner_is_given_back(
    ledger: Ledger, run_of_ten: Run, refund_attempts: bool, counted: int
) -> None:
    lease(ledger, run_of_ten, 1, "one")
    lease(ledger, run_of_ten, 2, "one")
    lease(ledger, run_of_ten, 3, "two")
    assert ledger.write(release_leases_of, "one", refund_attempts=refund_attempts) == 2
    assert ledger.write(release_leases_of, "one", refund_attempts=refund_attempts) == 0
    assert attempts(lease(ledger, run_of_ten, 1, "three")) == [counted] * 4
    assert attempts(lease(ledger, run_of_ten, 2, "three")) == [counted] * 4
    assert ledger.write(lease_chunk, run_of_ten.id, 3, "three", 60) is LeaseDenied.HELD


def test_unfinished_chunks_are_listed_in_batches_in_order(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(7), chunk_size=1)
    finish(ledger, lease(ledger, run, 3))
    assert list(unfinished_chunks(ledger, run.id, batch=4)) == [[1, 2, 4, 5], [6, 7]]
    ledger.write(mark_published, run.id, [1, 2])
    with ledger.read() as connection:
        sent = connection.execute(select(chunks.c.number).where(chunks.c.published_at.is_not(None)))
        assert sorted(sent.scalars()) == [1, 2]


def following(ledger: Ledger, held: Lease, *also: int, owner: str = "one") -> int | None:
    found = ledger.write(lease_following, held, [held.number, *also], owner, 60.0)
    return None if found is None else found.number


def test_the_following_chunk_is_one_that_was_sent_and_that_nobody_began(
    ledger: Ledger, run_of_ten: Run
) -> None:
    held = lease(ledger, run_of_ten, 1)
    assert following(ledger, held) is None, "none was sent"
    ledger.write(mark_published, run_of_ten.id, [1, 2, 3])
    lease(ledger, run_of_ten, 2, "two")
    assert following(ledger, held) == 3
    assert following(ledger, held, 3) is None
    end_lease(ledger, 2)
    assert following(ledger, held, 3) is None, "its images were begun: they are done one by one"
    assert following(ledger, held) == 3, "ours, from an attempt that died"


def test_no_chunk_follows_in_a_run_that_ended_or_while_another_waits(ledger: Ledger, run_of_ten: Run) -> None:
    ledger.write(mark_published, run_of_ten.id, [1, 2, 3])
    held = lease(ledger, run_of_ten, 1)
    other, _ = take(ledger, some_files(4), root="/other")
    ledger.write(mark_published, other.id, [1])
    assert following(ledger, held) is None
    lease(ledger, other, 1, "two")
    assert following(ledger, held) == 2
    ledger.write(set_state, run_of_ten.id, CANCELLED)
    assert following(ledger, held, 2) is None
