"""Runs: one folder, or a part of it, explained with one model and one set of options."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Row, and_, case, func, or_, select, update

from db.dialect import a_key, insert_of, now
from db.errors import RunNotFound, RunNotScanned
from db.schema import chunks, images, results, runs

SCANNING, OPEN, CANCELLED = "scanning", "open", "cancelled"
# Ctrl-C, or a command that failed, ended the work: nobody takes it up but `resume` or the same command.
STOPPED = "stopped"
HALTED = (CANCELLED, STOPPED)


@dataclass(frozen=True)
class Run:
    """`selection`: what of the folder was asked for, `only` the file of this name, `globs`; None: all."""

    id: int
    root: str
    output: str
    selection: dict[str, Any] | None
    options: dict[str, Any]
    pinned_model: str | None
    chunk_size: int
    state: str
    created_at: datetime
    scanned_at: datetime | None

    @property
    def place(self) -> str:
        """The folder or the file that was named."""
        only = (self.selection or {}).get("only")
        return self.root if only is None else f"{self.root.rstrip('/')}/{only}"

    @property
    def globs(self) -> list[str]:
        """The patterns that were given."""
        return list((self.selection or {}).get("globs", ()))

    @property
    def asked(self) -> str:
        """Place and patterns, for people."""
        return f"{self.place} ({', '.join(self.globs)})" if self.globs else self.place

    @property
    def is_scanned(self) -> bool:
        """Whether its folder was scanned to the end, once at least: else it may have other images, too."""
        return self.scanned_at is not None and self.state != SCANNING


@dataclass(frozen=True)
class Progress:
    """How far a run is; counted over its chunks, never over its images."""

    images: int
    done: int
    failed: int
    chunks: int
    finished_chunks: int
    leased_chunks: int
    expired_leases: int = 0

    @property
    def pending(self) -> int:
        return self.images - self.done - self.failed

    @property
    def is_complete(self) -> bool:
        return self.pending <= 0


def shown_state(run: Run, found: Progress) -> str:
    """The state of a run for people: `complete` where all images have results and nobody cancelled it."""
    return "complete" if run.state in (OPEN, STOPPED) and found.is_complete else run.state


def request_hash(
    root: str,
    output: str,
    model_version: str,
    options: dict[str, Any],
    *,
    pinned: bool,
    selection: dict[str, Any] | None = None,
) -> str:
    """What makes two requests the same: folder, what of it, output folder, model version, whether no other
    version may take over, and options."""
    beyond: dict[str, Any] = {"pinned": True} if pinned else {}
    if selection:
        beyond["selection"] = selection
    request = [root, output, model_version, options, *([beyond] if beyond else [])]
    text = json.dumps(request, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def open_run(
    connection: Connection,
    *,
    root: str,
    output: str,
    options: dict[str, Any],
    model_version: str,
    pinned: bool,
    chunk_size: int,
    selection: dict[str, Any] | None = None,
    force: bool = False,
) -> tuple[Run, bool]:
    """The run for this request and whether it is new.

    An equal request made before is continued, so that what is done is not done again and two people
    who enqueue one folder at once share one run; `force` starts another. `output` is the folder below
    which the run's own folder is named. `pinned`: no other version may take over; such a request never
    continues a run that is not, nor one of a part of the folder (`selection`, as in `Run`) that of another.

    The run is `scanning` until its folder has been scanned once. Later scans only add to it: whoever waits
    for an open run is not held up by one that is broken off. A halted run waits for `end_scan`,
    as one that is stopped: cancelled is what is cancelled while it is scanned.
    """
    signature = request_hash(root, output, model_version, options, pinned=pinned, selection=selection)
    insert = insert_of(connection.dialect.name)
    newest = connection.execute(
        select(runs).where(runs.c.signature == signature).order_by(runs.c.repeat.desc()).limit(1)
    ).first()
    if newest is not None and not force:
        during = case(
            (runs.c.scanned_at.is_(None), SCANNING), (runs.c.state.in_(HALTED), STOPPED), else_=runs.c.state
        )
        connection.execute(update(runs).where(runs.c.id == newest.id).values(state=during))
        return _run(newest), False
    values = {
        "root": root,
        "output": output,
        "selection": selection or None,
        "options": options,
        "pinned_model": model_version if pinned else None,
        "signature": signature,
        "repeat": newest.repeat + 1 if newest is not None else 0,
        "chunk_size": chunk_size,
        "state": SCANNING,
        "created_at": now(),
    }
    statement = insert(runs).values(values).on_conflict_do_nothing().returning(runs.c.id)
    key = connection.execute(statement).scalar()
    if key is None:
        # Somebody opened the same run between our look and our insert: look again.
        return open_run(
            connection,
            root=root,
            output=output,
            options=options,
            model_version=model_version,
            pinned=pinned,
            chunk_size=chunk_size,
            selection=selection,
            force=force,
        )
    connection.execute(update(runs).where(runs.c.id == key).values(output=f"{output}/run-{key:06d}"))
    return _run(connection.execute(select(runs).where(runs.c.id == key)).one()), True


def get_run(connection: Connection, run_id: int) -> Run:
    """The run with this number. Raises RunNotFound."""
    row = connection.execute(select(runs).where(runs.c.id == a_key(run_id))).first()
    if row is None:
        raise RunNotFound(f"there is no run {run_id}; 'xraycam runs' lists them")
    return _run(row)


def require_scanned(run: Run) -> None:
    """Raises RunNotScanned for a run that may have images which nobody has found yet."""
    if not run.is_scanned:
        raise RunNotScanned(
            f"run {run.id} does not know all its files: {run.root} is being scanned, or was not scanned to "
            f"the end; 'xraycam run {run.place}' or 'enqueue' with the same options continues it"
        )


def latest_run(connection: Connection) -> Run:
    """The run that was opened last. Raises RunNotFound when there is none."""
    row = connection.execute(select(runs).order_by(runs.c.id.desc()).limit(1)).first()
    if row is None:
        raise RunNotFound("there is no run yet; 'xraycam run FOLDER' makes one")
    return _run(row)


def find_run(connection: Connection, signature: str) -> Run | None:
    """The run that `open_run` would continue for the request of this `request_hash`; None: a new one."""
    row = connection.execute(
        select(runs).where(runs.c.signature == signature).order_by(runs.c.repeat.desc()).limit(1)
    ).first()
    return None if row is None else _run(row)


def latest_unfinished(connection: Connection, states: Sequence[str]) -> Run | None:
    """The newest run in one of `states` that is being scanned or has an image without a result."""
    unfinished = select(chunks.c.run_id).where(chunks.c.run_id == runs.c.id, chunks.c.finished_at.is_(None))
    row = connection.execute(
        select(runs)
        .where(runs.c.state.in_(states), (runs.c.state == SCANNING) | unfinished.exists())
        .order_by(runs.c.id.desc())
        .limit(1)
    ).first()
    return None if row is None else _run(row)


def list_runs(connection: Connection, limit: int = 50) -> list[Run]:
    """The newest runs, newest first."""
    rows = connection.execute(select(runs).order_by(runs.c.id.desc()).limit(limit)).all()
    return [_run(row) for row in rows]


def set_state(connection: Connection, run_id: int, state: str) -> None:
    """Open or cancel a run; workers look before they start a chunk."""
    values: dict[str, Any] = {"state": state}
    connection.execute(update(runs).where(runs.c.id == run_id).values(values))


def stop_run(connection: Connection, run_id: int) -> None:
    """Have no worker start another chunk of an open run until it is resumed; current ones are finished."""
    unfinished = select(chunks.c.run_id).where(chunks.c.run_id == run_id, chunks.c.finished_at.is_(None))
    connection.execute(
        update(runs)
        .where(runs.c.id == run_id, runs.c.state == OPEN, unfinished.exists())
        .values(state=STOPPED)
    )


def progress(connection: Connection, run_id: int) -> Progress:
    """Counts of a run, from its chunks."""
    statement = select(*_counted()).where(chunks.c.run_id == run_id)
    row = connection.execute(statement).one()
    return Progress(*(int(value) for value in row))


def open_progress(connection: Connection) -> dict[int, Progress]:
    """Counts of every run with work left, by its number; cancelled and stopped ones are left out."""
    unfinished = select(chunks.c.run_id).where(chunks.c.finished_at.is_(None))
    statement = (
        select(chunks.c.run_id, *_counted())
        .join(runs, runs.c.id == chunks.c.run_id)
        .where(chunks.c.run_id.in_(unfinished), runs.c.state.not_in(HALTED))
        .group_by(chunks.c.run_id)
        .order_by(chunks.c.run_id)
    )
    rows = connection.execute(statement).all()
    return {int(row[0]): Progress(*(int(value) for value in row[1:])) for row in rows}


def _counted() -> tuple[ColumnElement[Any], ...]:
    """The fields of `Progress`, over a run's chunks."""
    is_leased = chunks.c.finished_at.is_(None) & (chunks.c.lease_expires_at > now())
    # A lease that was given back does not count: so all but the one that finished the chunk, or holds it
    # now, were lost.
    lost = chunks.c.leases - case((chunks.c.finished_at.is_not(None) | is_leased, 1), else_=0)
    return (
        func.coalesce(func.sum(chunks.c.images), 0),
        func.coalesce(func.sum(chunks.c.done), 0),
        func.coalesce(func.sum(chunks.c.failed), 0),
        func.count(),
        func.count(chunks.c.finished_at),
        func.count().filter(is_leased),
        func.coalesce(func.sum(case((lost > 0, lost), else_=0)), 0),
    )


def failures_by_reason(connection: Connection, run_id: int) -> dict[str, int]:
    """How many images failed for which reason, most frequent first."""
    statement = (
        select(results.c.reason, func.count())
        .where(results.c.run_id == run_id, results.c.status == "failed")
        .group_by(results.c.reason)
        .order_by(func.count().desc())
    )
    return {str(reason): int(count) for reason, count in connection.execute(statement)}


def count_by_class(connection: Connection, run_id: int) -> dict[str, int]:
    """How many images were predicted as which class."""
    name = results.c["class"]
    statement = (
        select(name, func.count())
        .where(results.c.run_id == run_id, name.is_not(None))
        .group_by(name)
        .order_by(func.count().desc())
    )
    return {str(key): int(count) for key, count in connection.execute(statement)}


def count_by_odd_word(connection: Connection, run_id: int, *, gone: bool = True) -> dict[str, int]:
    """How many images of a run each word of `odd` was said of, most frequent first; those of versions
    without a check count as `not checked`. `gone`: also those whose files are gone since."""
    statement = (
        select(results.c.odd, func.count())
        .select_from(_of_files(gone))
        .where(
            results.c.run_id == run_id,
            or_(results.c.odd != "", and_(results.c.odd.is_(None), results.c.status == "done")),
        )
        .group_by(results.c.odd)
    )
    found: Counter[str] = Counter()
    for words, count in connection.execute(statement):
        for word in ["not checked"] if words is None else str(words).split(","):
            found[word] += int(count)
    return dict(found.most_common())


def count_by_decision(connection: Connection, run_id: int, *, gone: bool = True) -> dict[str, int]:
    """How many images were decided how; none where the run has no threshold. `gone`: as above."""
    name = results.c.decision
    statement = (
        select(name, func.count())
        .select_from(_of_files(gone))
        .where(results.c.run_id == run_id, name.is_not(None))
        .group_by(name)
        .order_by(name.desc())
    )
    return {str(key): int(count) for key, count in connection.execute(statement)}


def _of_files(gone: bool) -> FromClause:
    """Results, with `gone` of all images, else of those whose files are there."""
    there = (images.c.id == results.c.image_id) & images.c.gone_at.is_(None)
    return results if gone else results.join(images, there)


def count_images(connection: Connection, run_id: int) -> int:
    """Rows of a run, counted one by one: exact even where a scan was interrupted."""
    found = connection.execute(select(func.count()).where(images.c.run_id == run_id)).scalar_one()
    return int(found)


def _run(row: Row[Any]) -> Run:
    return Run(
        id=row.id,
        root=row.root,
        output=row.output,
        selection=row.selection,
        options=row.options,
        pinned_model=row.pinned_model,
        chunk_size=row.chunk_size,
        state=row.state,
        created_at=row.created_at,
        scanned_at=row.scanned_at,
    )
