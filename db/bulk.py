"""Many values in one statement, as each database does it fastest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Table,
    any_,
    column,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import insert


def among(column_: Column[Any], values: Sequence[Any], connection: Connection) -> ColumnElement[bool]:
    """`column IN values` as one parameter, however many values there are."""
    if connection.dialect.name == "sqlite":
        listed = func.json_each(json.dumps(values, ensure_ascii=False)).table_valued("value")
        return column_.in_(select(listed.c.value))
    return column_ == any_(literal(list(values), ARRAY(column_.type)))


def insert_rows(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> int:
    """Insert rows, passing over those that are there already; returns how many were inserted."""
    if connection.dialect.name == "sqlite":
        places = ", ".join("?" * len(names))
        sql = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608 - names of the schema
        return connection.exec_driver_sql(sql, list(rows)).rowcount
    arrays = [
        literal([row[place] for row in rows], ARRAY(table.c[name].type)) for place, name in enumerate(names)
    ]
    listed = func.unnest(*arrays).table_valued(*[column(name) for name in names]).render_derived()
    statement = insert(table).from_select(list(names), select(listed)).on_conflict_do_nothing()
    options = {"preserve_rowcount": True}
    return int(connection.execute(statement, execution_options=options).rowcount)
