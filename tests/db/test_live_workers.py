"""Workers: who lives, by the database's clock."""

from __future__ import annotations

from sqlalchemy import update

from db.dialect import now
from db.ledger import Ledger
from db.schema import workers
from db.workers import Worker, list_workers, register_worker, remove_worker, update_worker


def register(ledger: Ledger, name: str) -> None:
    ledger.write(register_worker, name=name, host="host", pid=7, device="gpu0", queues="explain")


def only(ledger: Ledger) -> Worker:
    (worker,) = ledger.query(list_workers)
    return worker


def silence(ledger: Ledger, seconds: float) -> None:
    """What the passing of time does."""
    ledger.write(
        lambda connection: connection.execute(update(workers).values(last_heartbeat_at=now(-seconds)))
    )


def test_worker_lives_as_long_as_it_is_heard_of(ledger: Ledger) -> None:
    register(ledger, "one")
    assert only(ledger).is_live
    silence(ledger, 61)
    assert not only(ledger).is_live
    silence(ledger, 50)
    assert only(ledger).is_live
    assert not ledger.query(list_workers, silent_seconds=40)[0].is_live


def test_note_of_a_worker_shows_what_changed_and_that_it_lives(ledger: Ledger) -> None:
    register(ledger, "one")
    silence(ledger, 100)
    ledger.write(update_worker, "one", activity="run 1, chunk 2", model_version="first")
    ledger.write(update_worker, "one", last_error="no space left")
    worker = only(ledger)
    assert (worker.activity, worker.model_version, worker.last_error) == (
        "run 1, chunk 2",
        "first",
        "no space left",
    )
    assert worker.is_live


def test_worker_that_starts_again_starts_afresh(ledger: Ledger) -> None:
    register(ledger, "one")
    ledger.write(update_worker, "one", last_error="no space left", activity="run 1, chunk 2")
    register(ledger, "one")
    assert (only(ledger).last_error, only(ledger).activity) == (None, None)


def test_workers_are_listed_by_name_and_forgotten_when_they_end(ledger: Ledger) -> None:
    for name in ("b", "a"):
        register(ledger, name)
    assert [worker.name for worker in ledger.query(list_workers)] == ["a", "b"]
    ledger.write(remove_worker, "a")
    ledger.write(update_worker, "a", activity="nothing")
    assert [worker.name for worker in ledger.query(list_workers)] == ["b"]
