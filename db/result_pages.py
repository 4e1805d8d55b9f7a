"""Results of a run in pages by key, each quick however long the run and however rare what is asked for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, null, or_, select, tuple_

from db.browse import SHOWN_COLUMNS
from db.results import FINDING_FROM, probability_of
from db.reviews import is_of_result
from db.schema import images, results, reviews

SORTS = {
    "score": results.c.score,
    "probability": results.c.probability,
    "corner": results.c.cam_corner_fraction,
    "id": results.c.image_id,
}
PAGE = 60
# Of a filter that few rows meet, no more is looked through at once than can be in this time, seconds.
BUDGET = 0.04
_FIRST_LOOK, _LARGEST_LOOK = 500, 4_000


# The value sorted by, None for those that have none, and the image.
Key = tuple[float | None, int]
_WITHOUT_VALUE: Key = (None, 0)


@dataclass(frozen=True)
class PageQuery:
    """`class_name`: predicted, or if `is_finding` at 0.5 or more. `sort`: one of SORTS;
    of "id", `status` says whether done or failed ones. None means any."""

    sort: str = "id"
    descending: bool = False
    status: str = "done"
    class_name: str | None = None
    is_finding: bool = False
    decision: str | None = None
    reason: str | None = None
    odd: str | None = None
    corner: float | None = None
    name: str | None = None
    reviewed: str | None = None
    reader: str = ""


@dataclass(frozen=True)
class Page:
    """`after`: where the next page begins, None at the end. It may be empty and not the last: look on."""

    rows: list[dict[str, Any]]
    after: Key | None


def read_page(connection: Connection, run_id: int, query: PageQuery, after: Key | None) -> Page:
    """The rows after a key, in order, those without a value last."""
    end = time.monotonic() + BUDGET
    look, found = _FIRST_LOOK, list[int]()
    while True:
        conditions = _conditions(query)
        if without := _is_without_value(after):
            conditions.append(SORTS[query.sort].is_(None))
        keys = _keys(run_id, query, after).limit(look if conditions else PAGE).subquery()
        wanted = select(keys.c.value, keys.c.image_id)
        if conditions:
            joined = keys.join(results, results.c.image_id == keys.c.image_id)
            if query.name is not None:
                joined = joined.join(images, images.c.id == keys.c.image_id)
            wanted = wanted.select_from(joined).where(*conditions)
        if without:
            wanted = wanted.order_by(keys.c.image_id)
        else:
            order = (keys.c.value, keys.c.image_id)
            wanted = wanted.order_by(*(part.desc() if query.descending else part for part in order))
        matches = connection.execute(wanted.limit(PAGE - len(found))).all()
        found += [row.image_id for row in matches]
        if len(found) >= PAGE:
            after = (matches[-1].value, matches[-1].image_id)
            break
        last = connection.execute(
            _keys(run_id, query, after).offset((look if conditions else PAGE) - 1).limit(1)
        ).first()
        if last is None and (without or query.sort == "id"):
            after = None
            break
        after = _WITHOUT_VALUE if last is None else (last.value, last.image_id)
        if time.monotonic() > end:
            break
        look = min(2 * look, _LARGEST_LOOK)
    return Page(_rows(connection, found), after)


def _rows(connection: Connection, found: list[int]) -> list[dict[str, Any]]:
    statement = (
        select(*SHOWN_COLUMNS)
        .select_from(results.join(images, images.c.id == results.c.image_id))
        .where(results.c.image_id.in_(found))
    )
    by_id = {row.id: dict(row._mapping) for row in connection.execute(statement)}
    return [by_id[number] for number in found if number in by_id]


def _is_without_value(after: Key | None) -> bool:
    return after is not None and after[0] is None


def _keys(run_id: int, query: PageQuery, after: Key | None) -> Any:
    """The values sorted by and the images, from `after` on; of those without a value all that are done, since
    no index has them apart."""
    value, key = SORTS[query.sort], results.c.image_id
    if after is not None and after[0] is None:
        of_run = (results.c.run_id == run_id, results.c.status == query.status, key > after[1])
        return select(null().label("value"), key.label("image_id")).where(*of_run).order_by(key)
    statement = select(value.label("value"), key.label("image_id")).where(results.c.run_id == run_id)
    if query.sort == "id":
        statement = statement.where(results.c.status == query.status)
        if after is not None:
            statement = statement.where(key < after[1] if query.descending else key > after[1])
        return statement.order_by(key.desc() if query.descending else key)
    statement = statement.where(value.is_not(None))
    if after is not None:
        here, there = tuple_(value, key), tuple_(*after)
        statement = statement.where(here < there if query.descending else here > there)
    return statement.order_by(*((value.desc(), key.desc()) if query.descending else (value, key)))


def _conditions(query: PageQuery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if query.is_finding and query.class_name is not None:
        conditions.append(probability_of(query.class_name) >= FINDING_FROM)
    for column, wanted in (
        ("class", None if query.is_finding else query.class_name),
        ("decision", query.decision),
        ("reason", query.reason),
    ):
        if wanted is not None:
            conditions.append(results.c[column] == wanted)
    if query.odd == "*":
        conditions.append(and_(results.c.odd.is_not(None), results.c.odd != ""))
    elif query.odd is not None:
        odd = "," + results.c.odd + ","
        conditions.append(
            or_(*(odd.contains(f"{before}{query.odd},", autoescape=True) for before in (",", ", ")))
        )
    if query.corner is not None:
        conditions.append(results.c.cam_corner_fraction >= query.corner)
    if query.name is not None:
        conditions.append(images.c.path.icontains(query.name, autoescape=True))
    if query.reviewed is not None:
        own = select(reviews.c.image_id).where(
            reviews.c.image_id == results.c.image_id, reviews.c.reader == query.reader, is_of_result()
        )
        if query.reviewed == "no":
            conditions.append(~own.exists())
        else:
            conditions.append(
                (own if query.reviewed == "yes" else own.where(reviews.c.verdict == query.reviewed)).exists()
            )
    return conditions
