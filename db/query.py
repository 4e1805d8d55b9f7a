"""Reading predictions: filtered, streamed, in the order of the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from db.ledger import Ledger
from db.schema import predictions

COLUMNS = tuple(column.name for column in predictions.columns)


@dataclass(frozen=True)
class Filter:
    """Which predictions; None means any."""

    run: int | None = None
    class_name: str | None = None
    min_probability: float | None = None
    status: str | None = None
    reason: str | None = None
    limit: int | None = None


def read_predictions(ledger: Ledger, wanted: Filter) -> Iterator[dict[str, Any]]:
    """Rows of the view `predictions` as dictionaries, streamed: memory does not grow with the run."""
    view = predictions.c
    statement = select(predictions)
    conditions = {
        "run": wanted.run,
        "class": wanted.class_name,
        "status": wanted.status,
        "reason": wanted.reason,
    }
    for name, value in conditions.items():
        if value is not None:
            statement = statement.where(view[name] == value)
    if wanted.min_probability is not None:
        statement = statement.where(view.probability >= wanted.min_probability)
    if wanted.limit is not None:
        statement = statement.limit(wanted.limit)
    with ledger.read() as connection:
        rows = connection.execution_options(yield_per=1000).execute(statement)
        for row in rows:
            yield dict(row._mapping)
