"""Postgres commits, and the connection breaks before its reply: what was written is written once."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import Connection, func, insert, make_url, select, text
from sqlalchemy import inspect as inspect_database

import db
from db.errors import DatabaseUnavailable
from db.ledger import Ledger
from db.migrate import migrate
from db.schema import metadata, trainings
from tests.support.cutting_proxy import CuttingProxy
from tests.support.ledger_writes import WRITES, state, training_of


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


# Steps of the writes above, never a transaction of their own.
STEPS = {
    "create_schema",
    "delete_empty_chunks",
    "end_scan",
    "refresh_counters",
    "release_leases",
    "upsert_results",
}
STATEMENTS = {"insert", "insert_rows", "update", "delete"}


def bare_names(functions: set[str]) -> set[str]:
    """As they are called: a method that is not public by its own name, `self._add`."""
    methods = {name.rpartition(".")[2] for name in functions if "." in name}
    return {name for name in functions if "." not in name} | {name for name in methods if name[0] == "_"}


def public_writes() -> set[str]:
    """The public functions and methods of `db` that change rows, by themselves or by another."""
    calls: dict[str, set[str]] = {}
    for module in pkgutil.iter_modules(db.__path__):
        if module.ispkg or module.name in ("ledger", "dialect"):
            continue
        for node in ast.parse(inspect.getsource(import_module(f"db.{module.name}"))).body:
            parts = [(node.name + ".", each) for each in node.body] if isinstance(node, ast.ClassDef) else []
            for prefix, each in parts or [("", node)]:
                if isinstance(each, ast.FunctionDef):
                    # Called by name, or handed to `Ledger.write`.
                    calls[prefix + each.name] = {
                        name.attr if isinstance(name, ast.Attribute) else name.id
                        for part in ast.walk(each)
                        if isinstance(part, ast.Call)
                        for name in (part.func, *part.args)
                        if isinstance(name, ast.Name)
                        or (name is part.func and isinstance(name, ast.Attribute))
                    }
    writes = {name for name, called in calls.items() if called & (STATEMENTS - {"update"} | {"write"})}
    writes |= {name for name, called in calls.items() if "update" in called and name != "IdSet.update"}
    while more := {name for name, called in calls.items() if called & bare_names(writes)} - writes:
        writes |= more
    return {name for name in writes if not name.rpartition(".")[2].startswith("_")} - STEPS


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
            connection.connection.driver_connection.close()
        return int(connection.execute(select(func.count()).select_from(trainings)).scalar_one())

    assert ledger.write(work) == 1
    assert len(calls) == 2


def without_times(value: Any) -> str:
    return re.sub(r"datetime\.datetime\([^)]*\)(, tzinfo=[^)]*\))?", "T", repr(value))
