"""Postgres commits, and the connection breaks before its reply: what was written is written once."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, make_url, select, text
from sqlalchemy import inspect as inspect_database

import db
from db.errors import DatabaseUnavailable
from db.ingest import RunIngest, requeue_failed
from db.leases import (
    Lease,
    claim_unpublished,
    increment_attempts,
    lease_chunk,
    mark_published,
    reclaim_expired,
    reclaim_from_worker,
    record_results,
    release_lease,
    release_leases_of,
    renew_lease,
)
from db.ledger import Ledger
from db.migrate import migrate
from db.models import add_model, promote_model, rollback_model
from db.runs import Run, get_run, open_run, set_state, stop_run
from db.schema import metadata, trainings
from db.trainings import (
    Training,
    add_training,
    cancel_training,
    claim_unpublished_trainings,
    fail_training,
    finish_training,
    record_epoch,
    renew_training,
    requeue_training,
    requeue_trainings_of,
    set_stage,
    start_training,
)
from db.workers import register_worker, remove_worker, update_worker
from tests.support.cutting_proxy import CuttingProxy
from tests.support.made_runs import finish, lease, open_some_run, some_files


@pytest.fixture
def cut(postgres: Any, migrated_template: str) -> Iterator[tuple[Ledger, CuttingProxy]]:
    """A ledger on Postgres, reached through a proxy that can cut."""
    ledger, proxy = through_proxy(postgres.new_database(migrated_template))
    yield ledger, proxy
    ledger.close()
    proxy.close()


def through_proxy(database_url: str) -> tuple[Ledger, CuttingProxy]:
    url = make_url(database_url)
    proxy = CuttingProxy(url.host or "127.0.0.1", url.port or 5432)
    through = url.set(host="127.0.0.1", port=proxy.port)
    ledger = Ledger(through.render_as_string(hide_password=False), retry_timeout=20.0)
    with ledger.read():
        pass  # a new connection commits its settings: that COMMIT is not the one to cut at
    return ledger, proxy


def state(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables; of a time, whether it is set."""
    found = {}
    with ledger.read() as connection:
        for table in metadata.sorted_tables:
            columns = [
                column.is_not(None) if column.name.endswith("_at") else column for column in table.columns
            ]
            rows = connection.execute(select(*columns)).all()
            found[table.name] = sorted(tuple(map(repr, row)) for row in rows)
    return found


RUN = {"root": "/x", "output": "/o", "options": {}, "model_version": "m", "pinned": False, "chunk_size": 4}


def training_of(ledger: Ledger) -> Training:
    return add_training(
        ledger, dataset="/d", recipe={"name": "default"}, init_weights="none", options={}, epochs=2
    )


def started_training(ledger: Ledger) -> Training:
    found = start_training(ledger, training_of(ledger).id, "one", 60)
    assert found is not None
    return found


def failed_training(ledger: Ledger) -> Training:
    found = started_training(ledger)
    fail_training(ledger, found, "why")
    return found


def run_of_six(ledger: Ledger) -> Run:
    """A run of six images in two chunks, open for workers."""
    run, is_new = open_some_run(ledger)
    ingest = RunIngest(ledger, run, is_new=is_new)
    ingest.add(some_files(6))
    ingest.close()
    return run


def leased(ledger: Ledger) -> Lease:
    return lease(ledger, run_of_six(ledger), 1)


def leased_and_ended(ledger: Ledger) -> Lease:
    return lease(ledger, run_of_six(ledger), 1, seconds=-1.0)


def half_failed(ledger: Ledger) -> Run:
    finish(ledger, leased(ledger), status="failed", reason="unreadable")
    return get_run(ledger, 1)


def ingest_of_new(ledger: Ledger) -> RunIngest:
    run, is_new = open_some_run(ledger)
    return RunIngest(ledger, run, is_new=is_new)


def ingest_of_known(ledger: Ledger) -> RunIngest:
    """Of a run that has finished, failed and pending images."""
    half_failed(ledger)
    run, is_new = open_some_run(ledger)
    return RunIngest(ledger, run, is_new=is_new)


def added(_ledger: Ledger, ingest: RunIngest) -> str:
    ingest.add([*some_files(4), *some_files(2, first=4, size=11), *some_files(7, first=6)])
    # The next batch fills the chunk that the first left open, by what the first told.
    ingest.add(some_files(3, first=13))
    return repr(ingest.counts)


def model(ledger: Ledger, version: str, **given: Any) -> None:
    add_model(ledger, version=version, digest="0" * 64, classes=("a", "b"), source="s", metrics={}, **given)


def two_models(ledger: Ledger) -> None:
    for version in ("first", "second", "third"):
        model(ledger, version, promote=version != "third")


def worker(ledger: Ledger) -> None:
    register_worker(ledger, name="one", host="h", pid=1, device="cpu", queues="explain")


def nothing(_ledger: Ledger) -> None:
    return None


EPOCH = {"stage": "head", "epoch": 1, "loss": 0.5, "val_loss": 0.6, "val_auc": 0.7}

# What was there before, and the call; the name begins with the function's.
WRITES: dict[str, tuple[Callable[[Ledger], Any], Callable[[Ledger, Any], Any]]] = {
    "add_model": (nothing, lambda ledger, _: model(ledger, "v", promote=True)),
    "add_training": (nothing, lambda ledger, _: training_of(ledger)),
    "cancel_training": (started_training, lambda ledger, held: cancel_training(ledger, held.id)),
    "claim_unpublished": (run_of_six, lambda ledger, _: claim_unpublished(ledger, -1.0)),
    "claim_unpublished_trainings": (training_of, lambda ledger, _: claim_unpublished_trainings(ledger, -1.0)),
    "fail_training": (started_training, lambda ledger, held: fail_training(ledger, held, "why")),
    "finish_training": (
        started_training,
        lambda ledger, held: finish_training(ledger, held, version="v", promotion_reason="better"),
    ),
    "increment_attempts": (leased, lambda ledger, held: increment_attempts(ledger, held.images[0].id)),
    "lease_chunk": (run_of_six, lambda ledger, run: lease_chunk(ledger, run.id, 1, "one", 60)),
    "lease_chunk, taken over": (leased, lambda ledger, _: lease_chunk(ledger, 1, 1, "one", 60)),
    "mark_published": (run_of_six, lambda ledger, run: mark_published(ledger, run.id, [1, 2])),
    "open_run": (nothing, lambda ledger, _: open_run(ledger, **RUN)),  # type: ignore[arg-type]
    "open_run, continued": (run_of_six, lambda ledger, _: open_some_run(ledger)),
    "open_run, forced": (run_of_six, lambda ledger, _: open_some_run(ledger, force=True)),
    "promote_model": (two_models, lambda ledger, _: promote_model(ledger, "third")),
    "reclaim_expired": (leased_and_ended, lambda ledger, _: reclaim_expired(ledger)),
    "reclaim_from_worker": (leased, lambda ledger, _: reclaim_from_worker(ledger, "one")),
    "record_epoch": (started_training, lambda ledger, held: record_epoch(ledger, held, [EPOCH], 9.0)),
    "record_results": (
        leased,
        lambda ledger, held: record_results(
            ledger, held, [{"image_id": image.id, "status": "done", "class": "a"} for image in held.images]
        ),
    ),
    "register_worker": (nothing, lambda ledger, _: worker(ledger)),
    "release_lease": (leased, lambda ledger, held: release_lease(ledger, held, "one")),
    "release_leases_of": (leased, lambda ledger, _: release_leases_of(ledger, "one")),
    "release_leases_of, refunded": (
        leased,
        lambda ledger, _: release_leases_of(ledger, "one", refund_attempts=True),
    ),
    "remove_worker": (worker, lambda ledger, _: remove_worker(ledger, "one")),
    "renew_lease": (leased, lambda ledger, held: renew_lease(ledger, held, "one", 60)),
    "renew_training": (started_training, lambda ledger, held: renew_training(ledger, held, 60)),
    "requeue_failed": (half_failed, lambda ledger, run: requeue_failed(ledger, run)),
    "requeue_training": (failed_training, lambda ledger, held: requeue_training(ledger, held.id)),
    "requeue_trainings_of": (started_training, lambda ledger, _: requeue_trainings_of(ledger, "one")),
    "rollback_model": (two_models, lambda ledger, _: rollback_model(ledger)),
    "RunIngest.add": (ingest_of_new, added),
    "RunIngest.add, to known images": (ingest_of_known, added),
    "RunIngest.close": (ingest_of_new, lambda _ledger, ingest: ingest.close()),
    "set_stage": (started_training, lambda ledger, held: set_stage(ledger, held, "head")),
    "set_state": (run_of_six, lambda ledger, run: set_state(ledger, run.id, "cancelled")),
    "start_training": (training_of, lambda ledger, held: start_training(ledger, held.id, "one", 60)),
    "stop_run": (run_of_six, lambda ledger, run: stop_run(ledger, run.id)),
    "update_worker": (worker, lambda ledger, _: update_worker(ledger, "one", activity="busy")),
}


def public_writes() -> set[str]:
    """The public functions and methods of `db` that write, by themselves or by another of their module."""
    found: set[str] = set()
    for module in pkgutil.iter_modules(db.__path__):
        if module.ispkg or module.name == "ledger":
            continue
        called: dict[str, set[str]] = {}
        for node in ast.parse(inspect.getsource(import_module(f"db.{module.name}"))).body:
            parts = [(node.name + ".", each) for each in node.body] if isinstance(node, ast.ClassDef) else []
            for prefix, each in parts or [("", node)]:
                if isinstance(each, ast.FunctionDef):
                    called[prefix + each.name] = {
                        part.func.attr if isinstance(part.func, ast.Attribute) else ast.unparse(part.func)
                        for part in ast.walk(each)
                        if isinstance(part, ast.Call)
                    }
        writes = {"write"}
        while more := {name for name, calls in called.items() if calls & writes} - writes:
            writes |= more
        found |= {name for name in writes - {"write"} if not name.rpartition(".")[2].startswith("_")}
    return found


def test_every_public_write_of_the_ledger_is_tested_here() -> None:
    # The first migration has a test of its own below.
    assert {name.partition(",")[0] for name in WRITES} | {"migrate"} == public_writes()


@pytest.mark.parametrize("name", list(WRITES))
def test_a_write_whose_commit_is_not_confirmed_is_done_once(
    name: str, cut: tuple[Ledger, CuttingProxy], postgres: Any, migrated_template: str
) -> None:
    undisturbed = Ledger(postgres.new_database(migrated_template))
    ledger, proxy = cut
    before, call = WRITES[name]
    prepared = [before(each) for each in (undisturbed, ledger)]
    expected = call(undisturbed, prepared[0])
    proxy.armed = True
    found = call(ledger, prepared[1])
    assert proxy.cut == 1
    assert state(ledger) == state(undisturbed)
    # What the caller gets is that of the first time, too: no image of a leased chunk counts as tried before.
    assert without_times(found) == without_times(expected)
    undisturbed.close()


def test_a_migration_whose_commit_is_not_confirmed_is_done_once(postgres: Any) -> None:
    ledger, proxy = through_proxy(postgres.new_database())
    proxy.armed = True
    assert migrate(ledger)
    assert proxy.cut == 1
    assert not migrate(ledger)
    with ledger.read() as connection:
        assert set(metadata.tables) < set(inspect_database(connection).get_table_names())
    ledger.close()
    proxy.close()


def commit_slowly(ledger: Ledger, seconds: float) -> None:
    """Have Postgres take so long to commit a new training."""

    def work(connection: Connection) -> None:
        connection.execute(text(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$"
        ))  # fmt: skip
        connection.execute(text(
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON trainings DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION wait()"
        ))  # fmt: skip

    ledger.write(work)


def test_a_write_waits_for_a_commit_that_is_still_in_progress(cut: tuple[Ledger, CuttingProxy]) -> None:
    ledger, proxy = cut
    commit_slowly(ledger, 1.0)
    proxy.impatient = proxy.armed = True
    assert training_of(ledger).id == 1
    assert proxy.cut == 1
    assert len(state(ledger)["trainings"]) == 1


def test_a_commit_that_never_completes_is_said_instead_of_waited_for(
    cut: tuple[Ledger, CuttingProxy],
) -> None:
    ledger, proxy = cut
    commit_slowly(ledger, 15.0)
    ledger.retry_timeout = 1.0
    proxy.impatient = proxy.armed = True
    start = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match="may be lost or kept"):
        training_of(ledger)
    assert time.monotonic() - start < 10


def test_a_transaction_that_was_not_committed_is_done_again(cut: tuple[Ledger, CuttingProxy]) -> None:
    ledger, _ = cut
    calls = []

    def work(connection: Connection) -> int:
        calls.append(1)
        connection.execute(insert(trainings).values(
            dataset="/d", recipe={}, init_weights="none", options={}, state="queued", epochs=1, history=[],
            created_at=func.now(),
        ))  # fmt: skip
        if len(calls) == 1:
            connection.connection.driver_connection.close()  # type: ignore[union-attr]
        return int(connection.execute(select(func.count()).select_from(trainings)).scalar_one())

    assert ledger.write(work) == 1
    assert len(calls) == 2


def without_times(value: Any) -> str:
    return re.sub(r"datetime\.datetime\([^)]*\)(, tzinfo=[^)]*\))?", "T", repr(value))
