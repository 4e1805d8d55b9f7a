"""Reading predictions: filtered, streamed, in the order of the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select

from db.ledger import Ledger
from db.runs import CANCELLED
from db.schema import images, predictions, results, runs

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
    """Rows of the view `predictions` as dictionaries, streamed: memory does not grow with the run.

    Asks the tables rather than the view, so that the indexes serve however large the run is.
    """
    with ledger.read() as connection:
        for row in connection.execution_options(yield_per=1000).execute(statement_for(wanted)):
            yield dict(row._mapping)


def statement_for(wanted: Filter) -> Select[*tuple[Any, ...]]:
    """The query for the wanted predictions, in the order in which they were enqueued."""
    statement = _PREDICTIONS.order_by(images.c.run_id, images.c.chunk, images.c.id)
    for condition in _conditions(wanted):
        statement = statement.where(condition)
    return statement if wanted.limit is None else statement.limit(wanted.limit)


def _conditions(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    if wanted.run is not None:
        yield images.c.run_id == wanted.run
    if wanted.status in ("done", "failed"):
        yield results.c.status == wanted.status
        if wanted.run is not None:
            yield results.c.run_id == wanted.run
    elif wanted.status is not None:
        yield results.c.image_id.is_(None)
        is_cancelled = runs.c.state == CANCELLED
        yield is_cancelled if wanted.status == "cancelled" else ~is_cancelled
    if wanted.class_name is not None:
        yield results.c["class"] == wanted.class_name
    if wanted.min_probability is not None:
        yield results.c.probability >= wanted.min_probability
    if wanted.reason is not None:
        yield results.c.reason == wanted.reason


_EXPRESSIONS: dict[str, ColumnElement[Any]] = {
    "run": images.c.run_id,
    "path": runs.c.root + "/" + images.c.path,
    "status": func.coalesce(
        results.c.status, case((runs.c.state == CANCELLED, "cancelled"), else_="pending")
    ),
    "enqueued_at": runs.c.created_at,
}
_PREDICTIONS = select(
    *((_EXPRESSIONS[name] if name in _EXPRESSIONS else results.c[name]).label(name) for name in COLUMNS)
).select_from(
    images.join(runs, runs.c.id == images.c.run_id).outerjoin(results, results.c.image_id == images.c.id)
)
