"""Taking a scanned folder into the ledger: in bulk, again without harm, what is done left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, case, delete, func, or_, select, update

from db.chunk_counters import delete_empty_chunks, last_chunk, lock_chunks, lock_run, refresh_counters
from db.dialect import in_array, insert_rows, now
from db.errors import RunNotFound
from db.gone_files import IdSet, last_image, mark_found
from db.ledger import Ledger
from db.runs import OPEN, SCANNING, STOPPED, Run, get_run, require_scanned
from db.schema import chunks, images, results, runs


class ScannedFile(NamedTuple):
    """A file as the scan saw it; `path` is relative to the run's root."""

    path: str
    size: int
    modified_ns: int


@dataclass
class IngestStats:
    new: int = 0
    unchanged: int = 0
    changed: int = 0
    retried: int = 0
    pending: int = field(default=0, compare=False)  # of the unchanged, those without a result


@dataclass(frozen=True)
class _OpenChunk:
    """The chunk that is being filled.

    `last`: the run's last chunk when we left it. `alone`: all of the run's images are from us.
    """

    alone: bool
    number: int = 0
    filled: int = 0
    last: int = 0


class RunIngest:
    """Adds scanned files to one run, batch by batch, each batch one transaction.

    Files that already have a `done` result are left alone, unless their size or modification time
    changed; failed ones are given another try. Several may add to one run at the same time.
    """

    def __init__(self, ledger: Ledger, run: Run, *, is_new: bool) -> None:
        self.ledger = ledger
        self.run = run
        self.counts = IngestStats()
        self._filling = _OpenChunk(alone=is_new)
        # Which of the images that were in the run before us we have come across.
        self.seen = IdSet()
        with ledger.read() as connection:
            self.last_before = 0 if is_new else last_image(connection, run.id)

    def add(self, files: Sequence[ScannedFile]) -> None:
        """Add a batch (a few thousand files at most)."""
        found, self._filling, seen = self.ledger.write(lambda connection: self._add(connection, files))
        self.seen.update(seen)
        self.counts.new += found.new
        self.counts.unchanged += found.unchanged
        self.counts.changed += found.changed
        self.counts.retried += found.retried
        self.counts.pending += found.pending

    def close(self) -> None:
        """End the scan, as `end_scan` does."""
        self.ledger.write(end_scan, self.run.id)

    def _add(
        self, connection: Connection, files: Sequence[ScannedFile]
    ) -> tuple[IngestStats, _OpenChunk, list[int]]:
        run_id = self.run.id
        lock_run(connection, run_id)
        if connection.execute(select(runs.c.id).where(runs.c.id == run_id)).first() is None:
            raise RunNotFound(f"run {run_id} was deleted while its folder was scanned; enqueue it again")
        counts, filling, last = IngestStats(), self._filling, last_chunk(connection, run_id)
        if last != filling.last:
            # The run had chunks before us, somebody else adds to it, or our last commit was not
            # confirmed to us.
            filling = _OpenChunk(alone=False, last=last)
        new_files: Sequence[ScannedFile] = files
        to_requeue: list[dict[str, Any]] = []
        left: list[int] = []
        seen: list[int] = []
        if not filling.alone:
            found = compare_files(connection, run_id, files)
            new_files, to_requeue, left = found.new, found.to_requeue, found.left
            counts, seen = found.counts, found.seen
            if found.returned:
                mark_found(connection, found.returned)
        if not (new_files or to_requeue):
            return counts, filling, seen
        lock_chunks(connection, run_id, sorted({filling.number, *left}))
        if _is_begun(connection, run_id, filling.number):
            # Its worker would leave what we add, and hold it until the lease ends.
            filling = replace(filling, number=0)
        numbers, filling = self._assign(filling, len(to_requeue) + len(new_files))
        touched = sorted({*numbers, *left})
        if to_requeue:
            _move(connection, to_requeue, numbers)
        if new_files:
            rows = [
                (run_id, number, path, size, modified_ns)
                for number, (path, size, modified_ns) in zip(
                    numbers[len(to_requeue) :], new_files, strict=True
                )
            ]
            counts.new += insert_rows(
                connection, images, ("run_id", "chunk", "path", "size", "modified_ns"), rows
            )
        refresh_counters(connection, run_id, touched)
        if left:
            delete_empty_chunks(connection, run_id, left)
        return counts, filling, seen

    def _assign(self, filling: _OpenChunk, count: int) -> tuple[list[int], _OpenChunk]:
        """Chunk numbers for so many images: the chunk being filled first, then new ones."""
        size = self.run.chunk_size
        room = min(size - filling.filled, count) if filling.number else 0
        numbers = [filling.number] * room
        numbers += [filling.last + 1 + place // size for place in range(count - room)]
        if count == room:
            return numbers, replace(filling, filled=filling.filled + room)
        filled = (count - room - 1) % size + 1
        return numbers, replace(filling, number=numbers[-1], filled=filled, last=numbers[-1])


def _is_begun(connection: Connection, run_id: int, number: int) -> bool:
    """Whether a chunk was sent to the workers, or leased by one."""
    return (
        connection.execute(
            select(chunks.c.number).where(
                chunks.c.run_id == run_id,
                chunks.c.number == number,
                or_(chunks.c.published_at.is_not(None), chunks.c.leases > 0),
            )
        ).first()
        is not None
    )


def end_scan(connection: Connection, run_id: int) -> None:
    """Open a run for workers whose folder was scanned to the end, unless it was cancelled meanwhile."""
    state = case((runs.c.state.in_((SCANNING, STOPPED)), OPEN), else_=runs.c.state)
    connection.execute(update(runs).where(runs.c.id == run_id).values(state=state, scanned_at=now()))


@dataclass(frozen=True)
class Comparison:
    """Files beside what a run knows of them. `new`: without a row. `to_requeue`: to be done again, and
    `left`, the chunks these are in. `seen`: rows of all that are known; `returned`: those that were gone.
    `counts.new` is left to who inserts them."""

    new: list[ScannedFile]
    to_requeue: list[dict[str, Any]]
    left: list[int]
    seen: list[int]
    returned: list[int]
    counts: IngestStats


def compare_files(connection: Connection, run_id: int, files: Sequence[ScannedFile]) -> Comparison:
    """What a scan of these files means for a run; changes nothing."""
    wanted = in_array(images.c.path, [file.path for file in files], connection)
    rows = connection.execute(
        select(
            images.c.path,
            images.c.id,
            images.c.chunk,
            images.c.size,
            images.c.modified_ns,
            images.c.gone_at,
            results.c.status,
        )
        .outerjoin(results, results.c.image_id == images.c.id)
        .where(images.c.run_id == run_id, wanted)
    )
    known = {row[0]: row for row in rows.all()}
    found = Comparison([], [], [], [], [], IngestStats())
    left: set[int] = set()
    for file in files:
        row = known.get(file.path)
        if row is None:
            found.new.append(file)
            continue
        _, key, chunk, size, modified_ns, gone_at, status = row
        found.seen.append(key)
        if gone_at is not None:
            found.returned.append(key)
        changed = size != file.size or modified_ns != file.modified_ns
        if not changed and status != "failed":
            found.counts.unchanged += 1
            found.counts.pending += status is None
            continue
        if changed:
            found.counts.changed += 1
        else:
            found.counts.retried += 1
        found.to_requeue.append({"key": key, "to_size": file.size, "to_modified_ns": file.modified_ns})
        left.add(chunk)
    found.left.extend(sorted(left))
    return found


def requeue_failed(connection: Connection, run: Run, reasons: Sequence[str] = ()) -> int:
    """Make a run's failed images (of `reasons`, or all) pending again; returns how many.

    Raises RunNotScanned for a run that may have other images: it would be opened, and be taken for whole.
    """
    is_wanted = (images.c.run_id == run.id) & (results.c.status == "failed")
    if reasons:
        is_wanted &= results.c.reason.in_(reasons)
    joined = images.join(results, results.c.image_id == images.c.id)
    lock_run(connection, run.id)
    require_scanned(get_run(connection, run.id))
    left = list(
        connection.execute(select(images.c.chunk).select_from(joined).where(is_wanted).distinct()).scalars()
    )
    lock_chunks(connection, run.id, left)
    place = func.row_number().over(order_by=images.c.id) - 1
    failed = (
        select(images.c.id, place.label("place"))
        .select_from(joined)
        .where(is_wanted, in_array(images.c.chunk, left, connection))
        .subquery()
    )
    last = last_chunk(connection, run.id)
    moved = connection.execute(
        update(images)
        .where(images.c.id == failed.c.id)
        .values(chunk=last + 1 + failed.c.place // run.chunk_size, attempts=0)
    ).rowcount
    if not moved:
        return 0
    keys = select(images.c.id).where(images.c.run_id == run.id, images.c.chunk > last)
    connection.execute(delete(results).where(results.c.image_id.in_(keys)))
    refresh_counters(connection, run.id, [*left, *range(last + 1, last + 2 + (moved - 1) // run.chunk_size)])
    delete_empty_chunks(connection, run.id, left)
    connection.execute(update(runs).where(runs.c.id == run.id).values(state=OPEN))
    return moved


def _move(connection: Connection, to_requeue: list[dict[str, Any]], numbers: Sequence[int]) -> None:
    """Make known images pending again, in other chunks."""
    keys = [row["key"] for row in to_requeue]
    connection.execute(delete(results).where(in_array(results.c.image_id, keys, connection)))
    for row, number in zip(to_requeue, numbers, strict=False):
        row["to_chunk"] = number
    connection.execute(_MOVE, to_requeue)


_MOVE = (
    update(images)
    .where(images.c.id == bindparam("key"))
    .values(
        chunk=bindparam("to_chunk"),
        size=bindparam("to_size"),
        modified_ns=bindparam("to_modified_ns"),
        attempts=0,
    )
)
