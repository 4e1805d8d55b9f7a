"""Who works: one row per worker, kept fresh while it lives."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, update

from db.dialect import insert_of, now
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


def register_worker(
    connection: Connection, *, name: str, host: str, pid: int, device: str, queues: str
) -> None:
    """Note that a worker starts."""
    insert = insert_of(connection.dialect.name)
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
    statement = insert(workers).values(values)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))


def update_worker(connection: Connection, /, name: str, **changes: str | None) -> None:
    """Note that a worker lives, and what changed: `model_version`, `activity` or `last_error`."""
    connection.execute(
        update(workers).where(workers.c.name == name).values(**changes, last_heartbeat_at=now())
    )


def list_workers(connection: Connection, silent_seconds: float = 60.0) -> list[Worker]:
    """All workers by name; `is_live` is false for one not heard of for `silent_seconds`."""
    is_live = (workers.c.last_heartbeat_at > now(-silent_seconds)).label("is_live")
    rows = connection.execute(select(workers, is_live).order_by(workers.c.name)).all()
    return [Worker(**{**row._mapping, "is_live": bool(row.is_live)}) for row in rows]


def remove_worker(connection: Connection, name: str) -> None:
    """Forget a worker that ended."""
    connection.execute(delete(workers).where(workers.c.name == name))
