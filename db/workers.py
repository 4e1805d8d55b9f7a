"""Who works: one row per worker, kept fresh while it lives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from db.dialect import now
from db.ledger import Ledger
from db.schema import workers


@dataclass(frozen=True)
class Worker:
    name: str
    host: str
    pid: int
    device: str
    queues: str
    model_version: str | None
    activity: str | None
    last_error: str | None
    started_at: datetime
    last_heartbeat_at: datetime
    is_live: bool


def register_worker(ledger: Ledger, *, name: str, host: str, pid: int, device: str, queues: str) -> None:
    """Note that a worker starts."""
    insert = insert_sqlite if ledger.is_sqlite else insert_postgresql
    values: dict[str, Any] = {
        "name": name,
        "host": host,
        "pid": pid,
        "device": device,
        "queues": queues,
        "model_version": None,
        "activity": None,
        "last_error": None,
        "started_at": now(),
        "last_heartbeat_at": now(),
    }

    def work(connection: Connection) -> None:
        statement = insert(workers).values(values)
        connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

    ledger.write(work)


def update_worker(ledger: Ledger, name: str, **changes: str | None) -> None:
    """Note that a worker lives, and what changed: `model_version`, `activity` or `last_error`."""

    def work(connection: Connection) -> None:
        connection.execute(
            update(workers).where(workers.c.name == name).values(**changes, last_heartbeat_at=now())
        )

    ledger.write(work)


def list_workers(ledger: Ledger, silent_seconds: float = 60.0) -> list[Worker]:
    """All workers by name; `is_live` is false for one not heard of for `silent_seconds`."""
    is_live = (workers.c.last_heartbeat_at > now(-silent_seconds)).label("is_live")
    with ledger.read() as connection:
        rows = connection.execute(select(workers, is_live).order_by(workers.c.name)).all()
    return [Worker(**{**row._mapping, "is_live": bool(row.is_live)}) for row in rows]


def remove_worker(ledger: Ledger, name: str) -> None:
    """Forget a worker that ended."""

    def work(connection: Connection) -> None:
        connection.execute(delete(workers).where(workers.c.name == name))

    ledger.write(work)
