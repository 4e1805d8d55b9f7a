"""What SQLite and Postgres write differently: the database's clock, and many values in one statement.

Each dialect is imported where it is used: a command pays for that of its own ledger alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Dialect,
    Double,
    String,
    Table,
    any_,
    column,
    func,
    literal,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine


class Timestamp(TypeDecorator[datetime]):
    """A moment, to the millisecond: `timestamptz` on Postgres, sortable UTC text on SQLite."""

    impl = String(23)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import TIMESTAMP

            return dialect.type_descriptor(TIMESTAMP(timezone=True))
        return dialect.type_descriptor(String(23))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if isinstance(value, str):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        return value.astimezone(UTC) if isinstance(value, datetime) else None


class now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The moment of the statement by the database's clock, plus `seconds`."""

    type = Timestamp()
    inherit_cache = True

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(literal(float(seconds)))


@compiles(now, "sqlite")
def _now_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f', 'now', ({seconds}) || ' seconds')"


@compiles(now, "postgresql")
def _now_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"clock_timestamp() + make_interval(secs => CAST({seconds} AS double precision))"


class unindexed(FunctionElement[float]):  # noqa: N801 - reads as the SQL function it is
    """A number that SQLite does not search an index by: it has no statistics, would choose that of the number
    over that of the order, and read all that match to sort them."""

    type = Double()
    inherit_cache = True


@compiles(unindexed, "sqlite")
def _unindexed_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"+({compiler.process(element.clauses, **options)})"


@compiles(unindexed, "postgresql")
def _unindexed_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return str(compiler.process(element.clauses, **options))


def a_key(number: int) -> int:
    """`number` where the databases can look for it; else 0, which no row has as its key."""
    return number if 0 < number < 1 << 63 else 0


def insert_of(dialect: str) -> Any:
    """The `insert` of a dialect, `sqlite` or `postgresql`, which can say what is done on a conflict."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert

        return insert
    from sqlalchemy.dialects.postgresql import insert as insert_postgresql

    return insert_postgresql


def in_array(column_: Column[Any], values: Sequence[Any], connection: Connection) -> ColumnElement[bool]:
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
    insert = insert_of("postgresql")
    statement = insert(table).from_select(list(names), select(listed)).on_conflict_do_nothing()
    options = {"preserve_rowcount": True}
    return int(connection.execute(statement, execution_options=options).rowcount)
