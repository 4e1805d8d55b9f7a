"""Results of many images in one statement, as each database does it fastest."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, Connection, Insert, Select, bindparam, column, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from db.clock import now
from db.schema import images, results

# What a row holds, `image_id` first; the rest is the same for all.
_GIVEN = [column for column in results.columns if column.name not in ("run_id", "finished_at")]


def put_results(connection: Connection, run_id: int, chunk: int, rows: Sequence[dict[str, Any]]) -> None:
    """Record results, passing over those of images that are not in this chunk; `done` is not overwritten.

    Each row has `image_id`, `status` and columns of `results`.
    """
    # An image that is named twice has the last of its rows: Postgres refuses to replace what it just wrote.
    plain = {row["image_id"]: {name: _storable(value) for name, value in row.items()} for row in rows}
    if not plain:
        return
    if connection.dialect.name == "sqlite":
        statement, constants = _for_each()
        same = constants | {"run": run_id, "chunk": chunk}
        connection.exec_driver_sql(statement, [same | _flat(row) for row in plain.values()])
    else:
        connection.execute(_FOR_ALL, {"rows": list(plain.values()), "run": run_id, "chunk": chunk})


def _storable(value: Any) -> Any:
    """A value as both databases take it: hostile files put NUL and broken Unicode into messages."""
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_storable(name): _storable(part) for name, part in value.items()}
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


def _for_all() -> Insert:
    listed = (
        func.json_to_recordset(bindparam("rows", type_=JSON))
        .table_valued(*[column(given.name, given.type) for given in _GIVEN])
        .render_derived(with_types=True)
    )
    return _upsert(insert_postgresql, _of_chunk(list(listed.c)))


# For Postgres, the rows in one parameter: less to send and to parse than each value by itself.
_FOR_ALL = _for_all()


@lru_cache(maxsize=1)
def _for_each() -> tuple[str, dict[str, Any]]:
    """For SQLite, the statement for one row and what a row need not give: its driver repeats it fast."""
    named = [bindparam(given.name, None, given.type) for given in _GIVEN]
    dialect = sqlite.dialect(paramstyle="named")
    compiled = _upsert(insert_sqlite, _of_chunk(named)).compile(dialect=dialect)
    return str(compiled), dict(compiled.params)
