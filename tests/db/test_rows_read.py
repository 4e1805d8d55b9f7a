"""However long a run: questions and work read few of its images and results, by both databases' plans."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, case, event, insert, literal, select

from db.chunk_counters import refresh_counters
from db.dialect import now
from db.leases import (
    claim_unpublished,
    mark_published,
    reclaim_expired,
    reclaim_from_worker,
    release_lease,
    renew_lease,
    unfinished_chunks,
)
from db.ledger import Ledger
from db.results import Filter, attribution_by_class, model_versions_of_run, read_predictions
from db.runs import Run, failures_by_reason, open_progress, progress
from db.schema import images, results
from tests.support.made_runs import finish, lease, some_files, take

FILES, CHUNK = 51_200, 64
FAILED_CHUNK = 40
UNDONE = (300, 799, 800)
LONG = ("images", "results")
# What a statement may read of these: some chunks.
FEW_ROWS = 10 * CHUNK
MANY_ROWS = FILES // 4


@pytest.fixture
def run(ledger: Ledger) -> Run:
    """A run of eight hundred chunks, done but for one that failed and three that are pending."""
    run, _ = take(ledger, some_files(FILES), batch=FILES, chunk_size=CHUNK)
    is_failed = images.c.chunk == FAILED_CHUNK
    values = {
        "image_id": images.c.id,
        "run_id": images.c.run_id,
        "status": case((is_failed, "failed"), else_="done"),
        "reason": case((is_failed, "empty")),
        "class": case((is_failed, None), (images.c.chunk % 2 == 0, "Normal"), else_="Tuberculosis"),
        "probability": case((is_failed, None), else_=images.c.id * 7919 % 1000 / literal(1000.0)),
        "model_version": literal("first"),
        "sha256": literal("ab" * 32),
        "overlay": "/overlays/run-000001/" + images.c.path + ".jpg",
        "finished_at": now(),
    }
    of_done = select(*values.values()).where(images.c.chunk.not_in(UNDONE))

    def fill(connection: Connection) -> None:
        connection.execute(insert(results).from_select(list(values), of_done))
        refresh_counters(connection, run.id, [*range(1, FILES // CHUNK + 1)])

    ledger.write(fill)
    if not ledger.is_sqlite:
        with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    return run


@contextmanager
def few_rows_read(ledger: Ledger, at_most: int = FEW_ROWS) -> Iterator[None]:
    """Look at each statement's plan, and on Postgres at what it reads, just before it is executed."""
    seen: list[str] = []

    def before(_: Any, cursor: Any, statement: str, given: Any, *_rest: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "INSERT", "DELETE")):
            seen.append(statement)
            one = given[0] if isinstance(given, list) else given
            beside = cursor.connection.cursor()
            if ledger.is_sqlite:
                look_at_sqlite(beside, statement, one)
            else:
                look_at_postgres(beside, statement, one, at_most)

    event.listen(ledger.engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(ledger.engine, "before_cursor_execute", before)
    assert seen


def look_at_sqlite(cursor: Any, statement: str, given: Any) -> None:
    steps = [row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", given)]
    told = "\n".join([statement, *steps])
    # The first rows of an answer are enough where its order is that of the index.
    is_ordered = "LIMIT" in statement and not any("B-TREE FOR ORDER BY" in step for step in steps)
    for step in steps:
        is_whole = re.match(rf"SCAN ({'|'.join(LONG)})\b", step)
        is_whole_run = re.match(rf"SEARCH ({'|'.join(LONG)})\b.*\(run_id=\?\)", step)
        assert not is_whole, told
        assert is_ordered or not is_whole_run, told
    assert is_ordered or "LIMIT" not in statement or not any(name in statement for name in LONG), told


def look_at_postgres(cursor: Any, statement: str, given: Any, at_most: int) -> None:
    cursor.execute("SAVEPOINT before")
    cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", given)
    (plan,) = cursor.fetchone()[0]
    cursor.execute("ROLLBACK TO before")
    for node in nodes(plan["Plan"]):
        if node.get("Relation Name") in LONG:
            rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            assert rows * node["Actual Loops"] <= at_most, f"{statement}\n{node}"


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", ()):
        yield from nodes(below)


FILTERS: list[tuple[dict[str, Any], int]] = [
    ({}, 20),
    ({"status": "done"}, 20),
    ({"status": "failed"}, 20),
    ({"status": "pending"}, 20),
    ({"status": "cancelled"}, 0),
    ({"reason": "empty"}, 20),
    ({"reason": "late"}, 0),
    ({"class_name": "Normal"}, 20),
    ({"class_name": "Nothing"}, 0),
    ({"class_name": "Normal", "status": "done"}, 20),
    ({"class_name": "Normal", "min_probability": 0.7}, 20),
    ({"class_name": "Normal", "min_probability": 0.9995}, 0),
    ({"min_probability": 0.7}, 20),
]


def test_the_first_of_any_results_are_found_without_reading_the_others(ledger: Ledger, run: Run) -> None:
    for wanted, count in FILTERS:
        with few_rows_read(ledger):
            rows = list(read_predictions(ledger, Filter(run=run.id, limit=20, **wanted)))
        assert len(rows) == count, wanted


def test_watching_counts_chunks_and_failures_alone(ledger: Ledger, run: Run) -> None:
    with few_rows_read(ledger):
        found = ledger.query(progress, run.id)
        assert ledger.query(open_progress) == {run.id: found}
        assert ledger.query(failures_by_reason, run.id) == {"empty": CHUNK}
    assert (found.images, found.pending, found.failed) == (FILES, len(UNDONE) * CHUNK, CHUNK)


def test_what_is_said_of_maps_is_asked_of_some_images(ledger: Ledger, run: Run) -> None:
    with few_rows_read(ledger):
        ledger.query(attribution_by_class, run.id, sample_every=200)
    with few_rows_read(ledger, at_most=MANY_ROWS):
        assert ledger.query(model_versions_of_run, run.id) == ["first"]


def test_work_reads_its_own_chunks(ledger: Ledger, run: Run) -> None:
    number = UNDONE[0]
    with few_rows_read(ledger):
        assert list(unfinished_chunks(ledger, run.id)) == [[*UNDONE]]
        ledger.write(mark_published, run.id, UNDONE)
        held = lease(ledger, run, number, "one")
        ledger.write(release_lease, held, "one")
        held = lease(ledger, run, number, "one")
        assert ledger.write(renew_lease, held, "one", -1.0)
        assert reclaim_from_worker(ledger, "two") == []
        assert [idle.numbers for idle in reclaim_expired(ledger)] == [(number,)]
        assert [idle.numbers for idle in claim_unpublished(ledger, -60.0)] == [UNDONE]
        finish(ledger, held)
    assert ledger.query(progress, run.id).finished_chunks == FILES // CHUNK - 2
