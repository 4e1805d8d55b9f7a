"""Results of many images in one statement, as each database does it fastest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, Connection, Insert, Select, bindparam, column, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from db.clock import now
from db.schema import images, results

# What a row holds; the rest is the same for all.
_GIVEN = [column for column in results.columns if column.name not in ("run_id", "finished_at")]


def put_results(connection: Connection, run_id: int, chunk: int, rows: Sequence[dict[str, Any]]) -> None:
    """Record results, passing over those of images that are not in this chunk; `done` is not overwritten.

    Each row has `image_id`, `status` and columns of `results`, of plain values.
    """
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        statement, constants = _for_each()
        same = constants | {"run": run_id, "chunk": chunk}
        connection.exec_driver_sql(statement, [same | _flat(row) for row in rows])
    else:
        connection.execute(_FOR_ALL, {"rows": rows, "run": run_id, "chunk": chunk})


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


def _of_chunk(listed: Sequence[Any], image: Any) -> Select[Any]:
    """Rows of `listed` values, for an image that is in the chunk."""
    return select(images.c.run_id, now(), *listed).where(
        images.c.id == image, images.c.run_id == bindparam("run"), images.c.chunk == bindparam("chunk")
    )


def _from_json() -> Insert:
    listed = (
        func.json_to_recordset(bindparam("rows", type_=JSON))
        .table_valued(*[column(name.name, name.type) for name in _GIVEN])
        .render_derived(with_types=True)
    )
    return _upsert(insert_postgresql, _of_chunk(list(listed.c), listed.c.image_id))


# One parameter, however many rows.
_FOR_ALL = _from_json()


@lru_cache(maxsize=1)
def _for_each() -> tuple[str, dict[str, Any]]:
    """The statement for one row, and the parameters that a row need not give: the driver repeats it fast."""
    named = [bindparam(column.name, None, column.type) for column in _GIVEN]
    compiled = _upsert(insert_sqlite, _of_chunk(named, named[0])).compile(
        dialect=sqlite.dialect(paramstyle="named")
    )
    return str(compiled), dict(compiled.params)
