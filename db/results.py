"""Results of images: recorded in one statement, read filtered and in order, and summed up."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Double,
    Insert,
    Select,
    bindparam,
    case,
    column,
    false,
    func,
    select,
)

from db.dialect import insert_of, now, unindexed
from db.ledger import Ledger
from db.runs import CANCELLED
from db.schema import PREDICTION_COLUMNS, chunks, images, results, runs, select_predictions

# What a row holds, `image_id` first; the rest is the same for all.
_GIVEN = [column for column in results.columns if column.name not in ("run_id", "finished_at")]


def upsert_results(connection: Connection, run_id: int, chunk: int, rows: Sequence[dict[str, Any]]) -> None:
    """Record results, passing over those of images that are not in this chunk; `done` is not overwritten.

    Each row has `image_id`, `status` and columns of `results`.
    """
    # An image that is named twice has the last of its rows: Postgres refuses to replace what it just wrote.
    plain = {row["image_id"]: {name: _sanitise(value) for name, value in row.items()} for row in rows}
    if not plain:
        return
    if connection.dialect.name == "sqlite":
        statement, constants = _sqlite_upsert()
        same = constants | {"run": run_id, "chunk": chunk}
        connection.exec_driver_sql(statement, [same | _flat(row) for row in plain.values()])
    else:
        connection.execute(_postgres_upsert(), {"rows": list(plain.values()), "run": run_id, "chunk": chunk})


def _sanitise(value: Any) -> Any:
    """A value as both databases take it: hostile files put NUL and broken Unicode into messages."""
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_sanitise(name): _sanitise(part) for name, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}


def _upsert(insert: Any, given: Select[Any]) -> Insert:
    """Insert what `given` selects; a result that is there already is replaced, unless it is `done`."""
    names = [column.name for column in _GIVEN]
    statement = insert(results).from_select(["run_id", "finished_at", *names], given)
    changed = {name: statement.excluded[name] for name in (*names[1:], "finished_at")}
    replaced: Insert = statement.on_conflict_do_update(
        index_elements=["image_id"], set_=changed, where=results.c.status != "done"
    )
    return replaced


def _of_chunk(values: Sequence[Any]) -> Select[Any]:
    """Rows of `values`, each for an image that is in the chunk."""
    return select(images.c.run_id, now(), *values).where(
        images.c.id == values[0],
        images.c.run_id == bindparam("run"),
        images.c.chunk == bindparam("chunk"),
    )


@lru_cache(maxsize=1)
def _postgres_upsert() -> Insert:
    """For Postgres, the rows in one parameter: less to send and to parse than each value by itself."""
    listed = (
        func.json_to_recordset(bindparam("rows", type_=JSON))
        .table_valued(*[column(given.name, given.type) for given in _GIVEN])
        .render_derived(with_types=True)
    )
    return _upsert(insert_of("postgresql"), _of_chunk(list(listed.c)))


@lru_cache(maxsize=1)
def _sqlite_upsert() -> tuple[str, dict[str, Any]]:
    """For SQLite, the statement for one row and what a row need not give: its driver repeats it fast."""
    from sqlalchemy.dialects import sqlite

    named = [bindparam(given.name, None, given.type) for given in _GIVEN]
    dialect = sqlite.dialect(paramstyle="named")
    compiled = _upsert(insert_of("sqlite"), _of_chunk(named)).compile(dialect=dialect)
    return str(compiled), dict(compiled.params)


COLUMNS = tuple(PREDICTION_COLUMNS)
WITHOUT_RESULT = ("pending", "cancelled")  # statuses of images
FINDING_FROM = 0.5  # a finding of at least this probability is one that an image has


@dataclass(frozen=True)
class Filter:
    """Which predictions; None means any. `class_name`: predicted, or if `is_finding` with a probability of at
    least `min_probability`, or 0.5, whatever else an image has. `min_probability`: else of the predicted."""

    run: int | None = None
    class_name: str | None = None
    min_probability: float | None = None
    min_score: float | None = None
    status: str | None = None
    reason: str | None = None
    limit: int | None = None
    sort: str | None = None
    is_finding: bool = False


# What rows can be sorted by: one value each. Of score, probability and heat in the corners there are indexes.
SORTABLE = tuple(
    name
    for name, value in PREDICTION_COLUMNS.items()
    if name not in ("run", "status", "enqueued_at", "gone_at") and not isinstance(value.type, JSON)
)


def read_predictions(ledger: Ledger, wanted: Filter) -> Iterator[dict[str, Any]]:
    """Rows of the view `predictions` as dictionaries, streamed: memory does not grow with the run.

    Asks the tables rather than the view, so that the indexes serve however large the run is.
    """
    with ledger.read() as connection:
        count = 0
        for statement in statements_for(wanted):
            left = None if wanted.limit is None else wanted.limit - count
            if left == 0:
                return
            streamed = connection.execution_options(yield_per=1000).execute(statement.limit(left))
            for row in streamed:
                count += 1
                yield dict(row._mapping)


def count_predictions(connection: Connection, wanted: Filter) -> int:
    """How many rows there are, whatever `limit` says."""
    if wanted == Filter(run=wanted.run, limit=wanted.limit, sort=wanted.sort):
        chosen = () if wanted.run is None else (images.c.run_id == wanted.run,)
        return int(connection.execute(select(func.count(images.c.id)).where(*chosen)).scalar_one())
    statement = statement_for(wanted).with_only_columns(images.c.id, maintain_column_froms=True)
    return int(
        connection.execute(
            select(func.count()).select_from(statement.limit(None).order_by(None).subquery())
        ).scalar_one()
    )


def statements_for(wanted: Filter) -> list[Select[*tuple[Any, ...]]]:
    """The queries that give the wanted predictions one after the other: sorted by a value, those without it
    come last, whichever way. Raises ValueError for a column that is none of SORTABLE."""
    if wanted.sort is None:
        return [statement_for(wanted)]
    name = wanted.sort.removeprefix("-")
    if name not in SORTABLE:
        raise ValueError(f"rows cannot be sorted by {name!r}")
    statement = statement_for(wanted).order_by(None)
    value: ColumnElement[Any] = images.c.path if name == "path" else results.c[name]
    key = images.c.id if name == "path" else results.c.image_id  # as in the index of the value
    order = (value.desc(), key.desc()) if wanted.sort.startswith("-") else (value, key)
    if name == "path":
        return [statement.order_by(*order)]
    last = results.c.image_id if list(_of_result(wanted)) else images.c.id
    return [_with_value(wanted, value, order), statement.where(value.is_(None)).order_by(last)]


def _with_value(
    wanted: Filter, value: ColumnElement[Any], order: Sequence[ColumnElement[Any]]
) -> Select[*tuple[Any, ...]]:
    """Those that have `value`, read from the results, whose indexes give them in order."""
    source = results.join(images, _IS_RESULT).join(runs, runs.c.id == images.c.run_id)
    conditions = [value.is_not(None), *_of_result(wanted)]
    if wanted.run is not None:
        conditions.append(results.c.run_id == wanted.run)
    if wanted.status in WITHOUT_RESULT:
        conditions.append(false())
    return select_predictions(source).where(*conditions).order_by(*order)


def statement_for(wanted: Filter) -> Select[*tuple[Any, ...]]:
    """The query for the wanted predictions, of which an index gives the first ones at once.

    All are in the order of their paths, pending ones in that of their chunks; those chosen by their result,
    in the order in which the images were enqueued first, which is that of the paths within one scan.
    """
    order: tuple[ColumnElement[Any], ...]
    if conditions := list(_of_result(wanted)):
        statement = select_predictions(
            results.join(images, _IS_RESULT).join(runs, runs.c.id == images.c.run_id)
        )
        run_id, order = results.c.run_id, (results.c.image_id,)
    elif wanted.status in WITHOUT_RESULT:
        statement = select_predictions(_OF_CHUNKS)
        run_id, order = chunks.c.run_id, (chunks.c.run_id, chunks.c.number, images.c.id)
        is_cancelled = runs.c.state == CANCELLED
        conditions = [
            chunks.c.finished_at.is_(None),
            is_cancelled if wanted.status == "cancelled" else ~is_cancelled,
            results.c.image_id.is_(None),
        ]
    else:
        statement = select_predictions(
            images.join(runs, runs.c.id == images.c.run_id).outerjoin(results, _IS_RESULT)
        )
        run_id, order = images.c.run_id, (images.c.run_id, images.c.path)
    if wanted.run is not None:
        conditions.append(run_id == wanted.run)
    return statement.where(*conditions).order_by(*order).limit(wanted.limit)


def _of_result(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    """Conditions on the result; of an image without one none is met."""
    conditions = list(_of_any_result(wanted))
    if conditions and wanted.status in WITHOUT_RESULT:
        yield false()
    yield from conditions


def _of_any_result(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    if wanted.status == "done" or wanted.min_probability is not None or wanted.min_score is not None:
        yield results.c.status == "done"
    if wanted.status == "failed" or wanted.reason is not None:
        yield results.c.status == "failed"
    if wanted.class_name is not None and wanted.is_finding:
        least = FINDING_FROM if wanted.min_probability is None else wanted.min_probability
        yield probability_of(wanted.class_name) >= least
    elif wanted.class_name is not None:
        yield results.c["class"] == wanted.class_name
    if wanted.min_probability is not None and not wanted.is_finding:
        yield unindexed(results.c.probability) >= wanted.min_probability
    if wanted.min_score is not None:
        yield results.c.score >= wanted.min_score
    if wanted.reason is not None:
        yield results.c.reason == wanted.reason


def probability_of(class_name: str) -> ColumnElement[float]:
    """That of one class or finding, in SQL; NULL where a result has none."""
    probability: ColumnElement[float] = results.c.probabilities[class_name].as_string().cast(Double)
    return probability


def count_findings(
    connection: Connection, run_id: int, names: Sequence[str], *, gone: bool = True
) -> dict[str, int]:
    """How many done images of a run have each finding; an image may count several times. `gone`: also those
    whose files are gone since."""
    if not names:
        return {}
    has = [func.sum(case((probability_of(name) >= FINDING_FROM, 1), else_=0)) for name in names]
    statement = select(*has).where(results.c.run_id == run_id, results.c.status == "done")
    if not gone:
        statement = statement.select_from(results.join(images, _IS_RESULT)).where(images.c.gone_at.is_(None))
    counted = connection.execute(statement).one()
    return {name: int(count or 0) for name, count in zip(names, counted, strict=True)}


_IS_RESULT = results.c.image_id == images.c.id
_OF_RUN = runs.c.id == images.c.run_id
# Every chunk has images. An outer join, since SQLite takes the tables of that in the order given: with an
# inner one it reads all images of the run before it asks which chunks are unfinished.
_OF_CHUNKS = (
    chunks.join(runs, runs.c.id == chunks.c.run_id)
    .outerjoin(images, (images.c.run_id == chunks.c.run_id) & (images.c.chunk == chunks.c.number))
    .outerjoin(results, _IS_RESULT)
)


@dataclass(frozen=True)
class ClassAttribution:
    """Means over the images whose heatmap is of `class_name`, blank ones left out of all but `blank`.

    `border`, `corner` and `marked` are shares of the heat, as the columns of `results` say; `marked` is
    None where no image has a marked area.
    """

    class_name: str
    images: int
    blank: int
    border: float
    corner: float
    marked: float | None
    marked_images: int


def attribution_by_class(
    connection: Connection, run_id: int, sample_every: int = 1
) -> list[ClassAttribution]:
    """One entry for each class that was explained and has a map that is not blank, by name.

    `sample_every`: look at one in so many of the run's chunks only.
    """
    of = results.c.target_class
    statement = (
        select(
            of,
            func.count(results.c.cam_border_fraction),
            func.count().filter(results.c.cam_border_fraction.is_(None)),
            func.avg(results.c.cam_border_fraction),
            func.avg(results.c.cam_corner_fraction),
            func.avg(results.c.cam_mask_fraction),
            func.count(results.c.cam_mask_fraction),
        )
        .where(results.c.run_id == run_id, results.c.status == "done", of.is_not(None))
        .group_by(of)
        .having(func.count(results.c.cam_border_fraction) > 0)
        .order_by(of)
    )
    if sample_every > 1:
        some = select(chunks.c.number).where(chunks.c.run_id == run_id, chunks.c.number % sample_every == 0)
        of_some = select(images.c.id).where(images.c.run_id == run_id, images.c.chunk.in_(some))
        statement = statement.where(results.c.image_id.in_(of_some))
    rows = connection.execute(statement).all()
    return [ClassAttribution(*row) for row in rows]


def model_versions_of_run(connection: Connection, run_id: int) -> list[str]:
    """The model versions that explained images of a run, by name; of each chunk one image is asked."""
    one = (
        select(results.c.model_version)
        .select_from(images.join(results, results.c.image_id == images.c.id))
        .where(
            images.c.run_id == chunks.c.run_id,
            images.c.chunk == chunks.c.number,
            results.c.status == "done",
            results.c.model_version.is_not(None),
        )
        .limit(1)
        .correlate(chunks)
        .scalar_subquery()
    )
    statement = select(one).where(chunks.c.run_id == run_id, chunks.c.done > 0).distinct()
    return sorted(str(name) for name in connection.execute(statement).scalars() if name is not None)
