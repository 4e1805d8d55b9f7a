"""Reading predictions: filtered, streamed, in the order of the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, case, func, select

from db.ledger import Ledger
from db.runs import CANCELLED
from db.schema import chunks, images, predictions, results, runs

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
    """The query for the wanted predictions, of which an index gives the first ones at once.

    All, and pending ones, are in the order of their chunks; those chosen by their result, in the order in
    which the images were enqueued first.
    """
    order: tuple[ColumnElement[Any], ...]
    if conditions := list(_of_result(wanted)):
        statement = _shown(results.join(images, _IS_RESULT).join(runs, runs.c.id == images.c.run_id))
        run_id, order = results.c.run_id, (results.c.image_id,)
    elif wanted.status in ("pending", "cancelled"):
        statement = _shown(_OF_CHUNKS)
        run_id, order = chunks.c.run_id, (chunks.c.run_id, chunks.c.number, images.c.id)
        is_cancelled = runs.c.state == CANCELLED
        conditions = [
            chunks.c.finished_at.is_(None),
            is_cancelled if wanted.status == "cancelled" else ~is_cancelled,
            results.c.image_id.is_(None),
        ]
    else:
        statement = _shown(images.join(runs, runs.c.id == images.c.run_id).outerjoin(results, _IS_RESULT))
        run_id, order = images.c.run_id, (images.c.run_id, images.c.chunk, images.c.id)
    if wanted.run is not None:
        conditions.append(run_id == wanted.run)
    return statement.where(*conditions).order_by(*order).limit(wanted.limit)


def _of_result(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    if wanted.status == "done" or wanted.min_probability is not None:
        yield results.c.status == "done"
    if wanted.status == "failed" or wanted.reason is not None:
        yield results.c.status == "failed"
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
_IS_RESULT = results.c.image_id == images.c.id
# Every chunk has images. An outer join, since SQLite takes the tables of that in the order given: with an
# inner one it reads all images of the run before it asks which chunks are unfinished.
_OF_CHUNKS = (
    chunks.join(runs, runs.c.id == chunks.c.run_id)
    .outerjoin(images, (images.c.run_id == chunks.c.run_id) & (images.c.chunk == chunks.c.number))
    .outerjoin(results, _IS_RESULT)
)


def _shown(source: FromClause) -> Select[*tuple[Any, ...]]:
    named = (
        (_EXPRESSIONS[name] if name in _EXPRESSIONS else results.c[name]).label(name) for name in COLUMNS
    )
    return select(*named).select_from(source)
