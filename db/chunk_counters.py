"""Counts of chunks: what a chunk's row says of its images, kept equal to their rows."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, case, delete, exists, func, select

from db.dialect import in_array, insert_of, now
from db.schema import chunks, images, results, runs


def lock_run(connection: Connection, run_id: int) -> None:
    """Let one transaction at a time change which images a run has, and which chunk they are in."""
    # SQLite's write transactions follow one another anyway. `key_share`: rows that refer to the run
    # may be added meanwhile.
    connection.execute(select(runs.c.id).where(runs.c.id == run_id).with_for_update(key_share=True))


def lock_chunks(connection: Connection, run_id: int, numbers: Sequence[int]) -> None:
    """Keep other transactions from leasing, recording or counting these chunks until ours ends.

    To be called before the first change to their images: two that count one chunk at the same time
    would not see each other's rows, and both be wrong.
    """
    connection.execute(
        select(chunks.c.number)
        .where(chunks.c.run_id == run_id, in_array(chunks.c.number, numbers, connection))
        .order_by(chunks.c.number)
        .with_for_update()
    )


def last_chunk(connection: Connection, run_id: int) -> int:
    """The highest number of a chunk in a run; 0 without any."""
    return (
        connection.execute(select(func.max(chunks.c.number)).where(chunks.c.run_id == run_id)).scalar() or 0
    )


def refresh_counters(connection: Connection, run_id: int, numbers: Sequence[int]) -> None:
    """Set the counts of these chunks from their images; one whose last image has a result is finished."""
    insert = insert_of(connection.dialect.name)
    status = results.c.status
    counted = (
        select(
            images.c.run_id,
            images.c.chunk,
            func.count(),
            func.count().filter(status == "done"),
            func.count().filter(status == "failed"),
        )
        .select_from(images.outerjoin(results, results.c.image_id == images.c.id))
        .where(images.c.run_id == run_id, in_array(images.c.chunk, numbers, connection))
        .group_by(images.c.run_id, images.c.chunk)
    )
    statement = insert(chunks).from_select(["run_id", "number", "images", "done", "failed"], counted)
    new = statement.excluded
    is_finished = new.done + new.failed == new.images
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["run_id", "number"],
            set_={
                "images": new.images,
                "done": new.done,
                "failed": new.failed,
                "finished_at": case((is_finished, func.coalesce(chunks.c.finished_at, now()))),
                "owner": case((is_finished, None), else_=chunks.c.owner),
                "lease_expires_at": case((is_finished, None), else_=chunks.c.lease_expires_at),
            },
        )
    )


def delete_empty_chunks(connection: Connection, run_id: int, numbers: Sequence[int]) -> None:
    """Remove those of these chunks whose images all moved to others."""
    holds = exists().where(images.c.run_id == chunks.c.run_id, images.c.chunk == chunks.c.number)
    connection.execute(
        delete(chunks).where(
            chunks.c.run_id == run_id, in_array(chunks.c.number, numbers, connection), ~holds
        )
    )
