"""The worker's side of the ledger: lease a chunk, record its results, release it; reclaim lost leases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, true, tuple_, update

from db.chunk_counters import last_chunk, lock_chunks, refresh_counters
from db.dialect import in_array, now
from db.ledger import Ledger
from db.models import Model, current_model, get_model
from db.results import upsert_results
from db.runs import CANCELLED, HALTED, OPEN, STOPPED, Run, get_run
from db.schema import chunks, images, results, runs


@dataclass(frozen=True)
class PendingImage:
    id: int
    path: str
    attempts: int
    size: int | None = field(default=None, compare=False)  # bytes, as the scan saw them


@dataclass(frozen=True)
class Lease:
    """A chunk that is ours until the lease ends; `images` are those without a result.

    `model`: the version that the run is pinned to, or the current one; None while there is none.
    """

    run: Run
    number: int
    images: tuple[PendingImage, ...]
    model: Model | None

    @property
    def run_id(self) -> int:
        return self.run.id


class LeaseDenied(Enum):
    """Why a chunk was not leased."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    HELD = "held by another worker"
    UNKNOWN = "not in the ledger"


def lease_chunk(
    connection: Connection, run_id: int, number: int, owner: str, seconds: float
) -> Lease | LeaseDenied:
    """Lease a chunk for `seconds` by the database's clock.

    A lease held under the same `owner` is taken over: an owner does one chunk at a time, so that the
    attempt that held it is dead. Counts an attempt on each image that has none yet: an image whose
    attempts are not 0 was in progress when a worker died, and is to be tried alone (`increment_attempts`).
    """
    of_chunk = (chunks.c.run_id == run_id) & (chunks.c.number == number)
    free = or_(
        chunks.c.lease_expires_at.is_(None), chunks.c.lease_expires_at < now(), chunks.c.owner == owner
    )
    not_halted = select(runs.c.id).where(runs.c.id == run_id, runs.c.state.not_in(HALTED)).exists()
    leased = connection.execute(
        update(chunks)
        .where(of_chunk, chunks.c.finished_at.is_(None), free, not_halted)
        .values(owner=owner, lease_expires_at=now(seconds), leases=chunks.c.leases + 1)
        .returning(chunks.c.leases)
    ).scalar()
    if leased is None:
        return _refusal(connection, of_chunk)
    rows = connection.execute(
        select(images.c.id, images.c.path, images.c.attempts, images.c.size)
        .outerjoin(results, results.c.image_id == images.c.id)
        .where(images.c.run_id == run_id, images.c.chunk == number, results.c.image_id.is_(None))
        .order_by(images.c.attempts, images.c.id)
    ).all()
    if not rows:
        refresh_counters(connection, run_id, [number])
        return LeaseDenied.FINISHED
    untried = [row.id for row in rows if row.attempts == 0]
    connection.execute(
        update(images).where(in_array(images.c.id, untried, connection)).values(attempts=1, counted_in=leased)
    )
    run = get_run(connection, run_id)
    pinned = run.pinned_model
    model = current_model(connection) if pinned is None else get_model(connection, pinned)
    pending = tuple(PendingImage(row.id, row.path, row.attempts, row.size) for row in rows)
    return Lease(run, number, pending, model)


def lease_following(
    connection: Connection, lease: Lease, held: Sequence[int], owner: str, seconds: float
) -> Lease | None:
    """Lease the next chunk of the same run while the chunks `held` are still being worked on.

    That is one which nobody has begun, or one that is ours from an attempt that died. None: there is none, or
    chunks of another run wait, whose turn the queue decides. Its message, when it comes, does nothing.
    """
    if _others_wait(connection, lease.run_id):
        return None
    untouched = _waits() & (chunks.c.leases == 0) & (chunks.c.number > lease.number)
    number = connection.execute(
        select(chunks.c.number)
        .where(
            chunks.c.run_id == lease.run_id,
            chunks.c.finished_at.is_(None),
            chunks.c.number.not_in(held),
            or_(untouched, chunks.c.owner == owner),
        )
        .order_by(chunks.c.number)
        .limit(1)
        .with_for_update(skip_locked=True)  # of Postgres; SQLite has one writer
    ).scalar()
    if number is None:
        return None
    found = lease_chunk(connection, lease.run_id, number, owner, seconds)
    return found if isinstance(found, Lease) else None


def _others_wait(connection: Connection, run_id: int) -> bool:
    waiting = select(chunks.c.number).where(chunks.c.run_id == runs.c.id, _waits()).exists()
    others = select(runs.c.id).where(runs.c.state == OPEN, runs.c.id != run_id, waiting)
    return connection.execute(others.limit(1)).first() is not None


def _waits() -> ColumnElement[bool]:
    return chunks.c.finished_at.is_(None) & chunks.c.owner.is_(None) & chunks.c.published_at.is_not(None)


def _refusal(connection: Connection, of_chunk: ColumnElement[bool]) -> LeaseDenied:
    row = connection.execute(
        select(chunks.c.finished_at, runs.c.state).join(runs, runs.c.id == chunks.c.run_id).where(of_chunk)
    ).first()
    if row is None:
        return LeaseDenied.UNKNOWN
    if row.state == CANCELLED:
        return LeaseDenied.CANCELLED
    if row.state == STOPPED and row.finished_at is None:
        return LeaseDenied.STOPPED
    return LeaseDenied.FINISHED if row.finished_at is not None else LeaseDenied.HELD


def renew_lease(connection: Connection, lease: Lease, owner: str, seconds: float) -> bool:
    """Hold a chunk for another `seconds`; false when it is no longer ours or its run was cancelled."""
    not_cancelled = select(runs.c.id).where(runs.c.id == lease.run_id, runs.c.state != CANCELLED).exists()
    return bool(
        connection.execute(
            update(chunks).where(*_held(lease, owner), not_cancelled).values(lease_expires_at=now(seconds))
        ).rowcount
    )


def release_leases(
    connection: Connection, held: ColumnElement[bool], *, refund: bool
) -> list[tuple[int, int]]:
    """End the leases of the unfinished chunks that meet `held`; returns them as (run, number).

    `refund`: the work was given back, or stopped on purpose, so that neither the lease nor the attempts
    that were counted in it count; else their worker died, and they do.
    """
    freed = connection.execute(
        update(chunks)
        .where(chunks.c.finished_at.is_(None), held)
        .values(owner=None, lease_expires_at=None, leases=chunks.c.leases - int(refund))
        .returning(chunks.c.run_id, chunks.c.number, chunks.c.leases)
    ).all()
    if refund:
        for run_id, number, leases in freed:
            connection.execute(
                update(images)
                .where(
                    images.c.run_id == run_id,
                    images.c.chunk == number,
                    images.c.counted_in == leases + 1,
                    _without_result(),
                )
                .values(attempts=images.c.attempts - 1, counted_in=None)
            )
    return [(int(row.run_id), int(row.number)) for row in freed]


def release_lease(connection: Connection, lease: Lease, owner: str) -> None:
    """Give a chunk back unfinished; its images are not to blame, so that no attempt counts."""
    release_leases(connection, and_(*_held(lease, owner)), refund=True)


def release_leases_of(connection: Connection, owner: str, *, refund_attempts: bool = False) -> int:
    """Give back every chunk that a worker held which is no more; returns how many.

    `refund_attempts`: it was stopped on purpose, so that the images in progress do not count as attempts.
    """
    return len(release_leases(connection, chunks.c.owner == owner, refund=refund_attempts))


def increment_attempts(connection: Connection, image_id: int) -> int:
    """Count one more attempt on an image before it is tried alone; returns its attempts."""
    lease = select(chunks.c.leases).where(
        chunks.c.run_id == images.c.run_id, chunks.c.number == images.c.chunk
    )
    connection.execute(
        update(images)
        .where(images.c.id == image_id)
        .values(attempts=images.c.attempts + 1, counted_in=lease.scalar_subquery())
    )
    return int(connection.execute(select(images.c.attempts).where(images.c.id == image_id)).scalar_one())


def record_results(connection: Connection, lease: Lease, rows: Sequence[dict[str, Any]]) -> None:
    """Record results of a leased chunk, all in one transaction; `done` is never overwritten.

    Each row has `image_id`, `status` and columns of `results`. The chunk is finished by the
    transaction that records its last image. Results of images that are no longer in the chunk are
    dropped: they were enqueued anew, since their files changed or another try was asked for.
    """
    lock_chunks(connection, lease.run_id, [lease.number])
    upsert_results(connection, lease.run_id, lease.number, rows)
    refresh_counters(connection, lease.run_id, [lease.number])


def unfinished_chunks(ledger: Ledger, run_id: int, batch: int = 1000) -> Iterator[list[int]]:
    """The numbers of a run's unfinished chunks, in batches, in order."""
    last = 0
    while True:
        statement = (
            select(chunks.c.number)
            .where(chunks.c.run_id == run_id, chunks.c.finished_at.is_(None), chunks.c.number > last)
            .order_by(chunks.c.number)
            .limit(batch)
        )
        with ledger.read() as connection:
            numbers = list(connection.execute(statement).scalars())
        if not numbers:
            return
        yield numbers
        last = numbers[-1]


def mark_published(connection: Connection, run_id: int, numbers: Sequence[int]) -> None:
    """Note that messages for these chunks were published."""
    connection.execute(
        update(chunks)
        .where(chunks.c.run_id == run_id, chunks.c.number.in_(numbers))
        .values(published_at=now())
    )


def _without_result() -> ColumnElement[bool]:
    return ~select(results.c.image_id).where(results.c.image_id == images.c.id).exists()


def _held(lease: Lease, owner: str) -> tuple[ColumnElement[bool], ...]:
    return (
        chunks.c.run_id == lease.run_id,
        chunks.c.number == lease.number,
        chunks.c.owner == owner,
        chunks.c.finished_at.is_(None),
    )


@dataclass(frozen=True)
class ReclaimedChunks:
    """Unfinished chunks of one run that wait for a message; `total`: how many chunks the run has."""

    run_id: int
    root: str
    total: int
    numbers: tuple[int, ...]


def reclaim_expired(ledger: Ledger, limit: int = 500, run_id: int | None = None) -> list[ReclaimedChunks]:
    """Free chunks, of one run or of all, whose lease ended: their worker is gone, or cannot reach the
    database. Like the two below it takes the ledger: it looks first, without the lock that writing needs."""
    return _claim(ledger, (chunks.c.lease_expires_at < now()) & _of_one(run_id), limit)


def reclaim_from_worker(ledger: Ledger, owner: str) -> list[ReclaimedChunks]:
    """Free chunks held by a worker that is known to be dead; its attempts count."""
    return _claim(ledger, chunks.c.owner == owner, limit=500)


def claim_unpublished(
    ledger: Ledger, seconds: float, limit: int = 500, run_id: int | None = None
) -> list[ReclaimedChunks]:
    """Chunks without a lease whose message was sent over `seconds` ago, or never; they count as sent now.

    To be called when the queue is empty: then these messages are lost.
    """
    scanned = select(runs.c.scanned_at).where(runs.c.id == chunks.c.run_id).scalar_subquery()
    return _claim(
        ledger,
        _of_one(run_id)
        & chunks.c.owner.is_(None)
        & (func.coalesce(chunks.c.published_at, scanned) < now(-seconds)),
        limit,
    )


def _of_one(run_id: int | None) -> ColumnElement[bool]:
    return true() if run_id is None else chunks.c.run_id == run_id


def _claim(ledger: Ledger, condition: ColumnElement[bool], limit: int) -> list[ReclaimedChunks]:
    """Free chunks of open runs that meet `condition`, and note them as sent; of several who call at once,
    each chunk goes to one."""
    is_open = select(runs.c.id).where(runs.c.state == OPEN)
    idle = chunks.c.finished_at.is_(None) & chunks.c.run_id.in_(is_open) & condition
    some = select(chunks.c.run_id, chunks.c.number).where(idle).limit(limit)
    with ledger.read() as connection:
        if connection.execute(some.limit(1)).first() is None:
            return []
    # The condition once more: on Postgres the row may have changed since it was chosen.
    return ledger.write(_free, tuple_(chunks.c.run_id, chunks.c.number).in_(some) & idle)


def _free(connection: Connection, chosen: ColumnElement[bool]) -> list[ReclaimedChunks]:
    by_run: dict[int, list[int]] = {}
    for run_id, number in release_leases(connection, chosen, refund=False):
        by_run.setdefault(run_id, []).append(number)
    for run_id, numbers in by_run.items():
        mark_published(connection, run_id, numbers)
    return [_of_run(connection, run_id, numbers) for run_id, numbers in sorted(by_run.items())]


def _of_run(connection: Connection, run_id: int, numbers: Sequence[int]) -> ReclaimedChunks:
    root = connection.execute(select(runs.c.root).where(runs.c.id == run_id)).scalar_one()
    return ReclaimedChunks(run_id, str(root), last_chunk(connection, run_id), tuple(sorted(numbers)))
