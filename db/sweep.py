"""Chunks that nobody works on although they should: freed, and returned to be sent again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, tuple_, update

from db.clock import now
from db.ledger import Ledger
from db.runs import OPEN
from db.schema import chunks, runs


@dataclass(frozen=True)
class IdleChunks:
    """Unfinished chunks of one run that wait for a message; `total`: how many chunks the run has."""

    run_id: int
    root: str
    total: int
    numbers: tuple[int, ...]


def free_expired(ledger: Ledger, limit: int = 500) -> list[IdleChunks]:
    """Free chunks whose lease ended: their worker is gone, or cannot reach the database."""
    return _free(ledger, chunks.c.lease_until < now(), limit)


def free_held_by(ledger: Ledger, owner: str) -> list[IdleChunks]:
    """Free chunks held by a worker that is known to be dead; its attempts count."""
    return _free(ledger, chunks.c.owner == owner, limit=500)


def claim_unsent(ledger: Ledger, seconds: float, limit: int = 500) -> list[IdleChunks]:
    """Chunks without a lease whose message was sent over `seconds` ago, or never; they count as sent now.

    To be called when the queue is empty: then these messages are lost.
    """
    scanned = select(runs.c.scanned_at).where(runs.c.id == chunks.c.run_id).scalar_subquery()
    return _free(
        ledger,
        chunks.c.owner.is_(None) & (func.coalesce(chunks.c.sent_at, scanned) < now(-seconds)),
        limit,
    )


def _free(ledger: Ledger, condition: ColumnElement[bool], limit: int) -> list[IdleChunks]:
    """Free the chunks that meet `condition`; of several who call at once, each chunk goes to one."""
    is_open = select(runs.c.id).where(runs.c.state == OPEN)
    idle = chunks.c.finished_at.is_(None) & chunks.c.run_id.in_(is_open) & condition
    some = select(chunks.c.run_id, chunks.c.number).where(idle).limit(limit)

    def look(connection: Connection) -> bool:
        return connection.execute(some.limit(1)).first() is not None

    def work(connection: Connection) -> list[IdleChunks]:
        freed = connection.execute(
            update(chunks)
            # The condition once more: on Postgres the row may have changed since it was chosen.
            .where(tuple_(chunks.c.run_id, chunks.c.number).in_(some), idle)
            .values(owner=None, lease_until=None, sent_at=now())
            .returning(chunks.c.run_id, chunks.c.number)
        ).all()
        return [_of_run(connection, run_id, freed) for run_id in sorted({row.run_id for row in freed})]

    with ledger.read() as connection:
        # Mostly there is nothing: then nobody needs the write lock.
        if not look(connection):
            return []
    return ledger.write(work)


def _of_run(connection: Connection, run_id: int, freed: Any) -> IdleChunks:
    root = connection.execute(select(runs.c.root).where(runs.c.id == run_id)).scalar_one()
    total = connection.execute(
        select(func.max(chunks.c.number)).where(chunks.c.run_id == run_id)
    ).scalar_one()
    numbers = tuple(sorted(row.number for row in freed if row.run_id == run_id))
    return IdleChunks(run_id, str(root), int(total), numbers)
