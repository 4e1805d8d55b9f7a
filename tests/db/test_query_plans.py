"""What `watch` and `results` ask is answered from indexes: no query reads or sorts a whole run."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Select, text
from sqlalchemy.dialects import postgresql, sqlite

from db.ledger import Ledger
from db.query import Filter, statement_for

LONG = ("images", "results")

FILTERS = {
    "all": Filter(run=1, limit=20),
    "class": Filter(run=1, class_name="Tuberculosis", limit=20),
    "sure": Filter(run=1, class_name="Tuberculosis", min_probability=0.9, limit=20),
    "done": Filter(run=1, status="done", limit=20),
    "failed": Filter(run=1, status="failed", limit=20),
    "reason": Filter(run=1, reason="truncated", limit=20),
    "pending": Filter(run=1, status="pending", limit=20),
}


def plan_of(ledger: Ledger, statement: Select[Any]) -> list[str]:
    """The lines of the database's plan."""
    dialect = sqlite.dialect() if ledger.is_sqlite else postgresql.dialect()
    sql = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    with ledger.read() as connection:
        if ledger.is_sqlite:
            return [row[3] for row in connection.execute(text(f"EXPLAIN QUERY PLAN {sql}"))]
        # A small table is always read as a whole; what is asked is whether there is another way.
        connection.execute(text("SET enable_seqscan = off"))
        connection.execute(text("SET enable_bitmapscan = off"))
        return [row[0] for row in connection.execute(text(f"EXPLAIN {sql}"))]


@pytest.mark.parametrize("name", FILTERS)
def test_first_results_come_straight_from_an_index(ledger: Ledger, name: str) -> None:
    plan = plan_of(ledger, statement_for(FILTERS[name]))
    if ledger.is_sqlite:
        assert not [line for line in plan if line.startswith(tuple(f"SCAN {table}" for table in LONG))], plan
        assert not [line for line in plan if "TEMP B-TREE" in line], plan
    else:
        assert not [line for line in plan if any(f"Seq Scan on {table}" in line for table in LONG)], plan
