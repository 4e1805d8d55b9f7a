"""Taking a scanned folder into the ledger: in bulk, again without harm, what is done left alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from db.clock import now
from db.ledger import Ledger
from db.runs import OPEN, Run
from db.schema import chunks, images, results, runs


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file as the scan saw it; `path` is relative to the run's root."""

    path: str
    size: int
    modified_ns: int


@dataclass
class IntakeCounts:
    new: int = 0
    unchanged: int = 0
    changed: int = 0
    repeated: int = 0


class Intake:
    """Adds scanned files to one run, batch by batch, each batch one transaction.

    Files that already have a `done` result are left alone, unless their size or modification time
    changed; failed ones are given another try.
    """

    def __init__(self, ledger: Ledger, run: Run, *, is_new: bool) -> None:
        self.ledger = ledger
        self.run = run
        self.counts = IntakeCounts()
        self._insert = insert_sqlite if ledger.is_sqlite else insert_postgresql
        self._may_hold_rows = not is_new
        self._needs_recount = not is_new
        self._chunk = _first_free_chunk(ledger, run.id)
        self._filled = 0

    def add(self, files: Sequence[ScannedFile]) -> None:
        """Add a batch (a few thousand files at most)."""
        state = (self._chunk, self._filled)

        def work(connection: Connection) -> IntakeCounts:
            self._chunk, self._filled = state  # a transaction that is tried again starts afresh
            return self._add(connection, files)

        found = self.ledger.write(work)
        self.counts.new += found.new
        self.counts.unchanged += found.unchanged
        self.counts.changed += found.changed
        self.counts.repeated += found.repeated

    def close(self) -> None:
        """End the scan: the run is open for workers, its chunks counted."""

        def work(connection: Connection) -> None:
            if self._needs_recount:
                recount(connection, self.run.id)
            connection.execute(
                update(runs).where(runs.c.id == self.run.id).values(state=OPEN, scanned_at=now())
            )

        self.ledger.write(work)

    def _add(self, connection: Connection, files: Sequence[ScannedFile]) -> IntakeCounts:
        counts = IntakeCounts()
        fresh: Sequence[ScannedFile] = files
        if self._may_hold_rows:
            fresh, again = self._compare(connection, files, counts)
            if again:
                connection.execute(
                    delete(results).where(results.c.image_id.in_([row["key"] for row in again]))
                )
                for row in again:
                    row["to_chunk"] = self._next_chunk(connection)
                connection.execute(_MOVE_IMAGE, again)
        if fresh:
            run_id = self.run.id
            rows = [
                {
                    "run_id": run_id,
                    "chunk": self._next_chunk(connection),
                    "path": file.path,
                    "size": file.size,
                    "modified_ns": file.modified_ns,
                }
                for file in fresh
            ]
            statement = self._insert(images).on_conflict_do_nothing(index_elements=["run_id", "path"])
            inserted = connection.execute(statement, rows).rowcount
            if 0 <= inserted < len(rows):
                # Somebody else enqueues the same folder: their rows stand, and chunks must be recounted.
                self._needs_recount = True
            counts.new += inserted if inserted >= 0 else len(rows)
        self._save_chunk(connection)
        return counts

    def _compare(
        self, connection: Connection, files: Sequence[ScannedFile], counts: IntakeCounts
    ) -> tuple[list[ScannedFile], list[dict[str, Any]]]:
        """Part the files in those without a row and those whose row is to be done again."""
        known = {
            row.path: row
            for row in connection.execute(
                select(images.c.id, images.c.path, images.c.size, images.c.modified_ns, results.c.status)
                .outerjoin(results, results.c.image_id == images.c.id)
                .where(images.c.run_id == self.run.id, images.c.path.in_([file.path for file in files]))
            )
        }
        fresh: list[ScannedFile] = []
        again: list[dict[str, Any]] = []
        for file in files:
            row = known.get(file.path)
            if row is None:
                fresh.append(file)
                continue
            changed = (row.size, row.modified_ns) != (file.size, file.modified_ns)
            if not changed and row.status != "failed":
                counts.unchanged += 1
                continue
            if changed:
                counts.changed += 1
            else:
                counts.repeated += 1
            again.append({"key": row.id, "to_size": file.size, "to_modified_ns": file.modified_ns})
        return fresh, again

    def _next_chunk(self, connection: Connection) -> int:
        if self._filled == self.run.chunk_size:
            self._save_chunk(connection)
            self._chunk += 1
            self._filled = 0
        self._filled += 1
        return self._chunk

    def _save_chunk(self, connection: Connection) -> None:
        if not self._filled:
            return
        values = {"run_id": self.run.id, "number": self._chunk, "images": self._filled}
        statement = self._insert(chunks).values(values)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["run_id", "number"], set_={"images": self._filled, "finished_at": None}
            )
        )


_MOVE_IMAGE = (
    update(images)
    .where(images.c.id == bindparam("key"))
    .values(
        chunk=bindparam("to_chunk"),
        size=bindparam("to_size"),
        modified_ns=bindparam("to_modified_ns"),
        attempts=0,
    )
)


def return_failed(ledger: Ledger, run: Run, reasons: Sequence[str] = ()) -> int:
    """Make a run's failed images (of `reasons`, or all) pending again; returns how many."""

    def work(connection: Connection) -> int:
        failed = select(results.c.image_id).where(results.c.run_id == run.id, results.c.status == "failed")
        if reasons:
            failed = failed.where(results.c.reason.in_(reasons))
        keys = list(connection.execute(failed).scalars())
        first = _first_free_chunk_in(connection, run.id)
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            connection.execute(delete(results).where(results.c.image_id.in_(part)))
            moved = [
                {"key": key, "to_chunk": first + (start + offset) // run.chunk_size}
                for offset, key in enumerate(part)
            ]
            connection.execute(
                update(images)
                .where(images.c.id == bindparam("key"))
                .values(chunk=bindparam("to_chunk"), attempts=0),
                moved,
            )
        if keys:
            recount(connection, run.id)
            connection.execute(update(runs).where(runs.c.id == run.id).values(state=OPEN))
        return len(keys)

    return ledger.write(work)


def recount(connection: Connection, run_id: int) -> None:
    """Count a run's chunks afresh from its images, after rows moved between chunks."""
    of_chunk = (images.c.run_id == chunks.c.run_id) & (images.c.chunk == chunks.c.number)
    held = select(func.count()).select_from(images).where(of_chunk).scalar_subquery()

    def with_status(status: str) -> Any:
        joined = images.join(results, results.c.image_id == images.c.id)
        return (
            select(func.count())
            .select_from(joined)
            .where(of_chunk, results.c.status == status)
            .scalar_subquery()
        )

    numbers = select(images.c.run_id, images.c.chunk, func.count()).where(images.c.run_id == run_id)
    missing = numbers.where(
        ~exists().where(chunks.c.run_id == images.c.run_id, chunks.c.number == images.c.chunk)
    ).group_by(images.c.run_id, images.c.chunk)
    connection.execute(chunks.insert().from_select(["run_id", "number", "images"], missing))
    of_run = chunks.c.run_id == run_id
    connection.execute(
        update(chunks)
        .where(of_run)
        .values(images=held, done=with_status("done"), failed=with_status("failed"))
    )
    connection.execute(delete(chunks).where(of_run, chunks.c.images == 0))
    has_pending = chunks.c.done + chunks.c.failed < chunks.c.images
    connection.execute(update(chunks).where(of_run, has_pending).values(finished_at=None))
    connection.execute(
        update(chunks)
        .where(of_run, ~has_pending, chunks.c.finished_at.is_(None))
        .values(finished_at=now(), owner=None, lease_until=None)
    )


def _first_free_chunk(ledger: Ledger, run_id: int) -> int:
    with ledger.read() as connection:
        return _first_free_chunk_in(connection, run_id)


def _first_free_chunk_in(connection: Connection, run_id: int) -> int:
    last = connection.execute(select(func.max(images.c.chunk)).where(images.c.run_id == run_id)).scalar()
    return (last or 0) + 1
