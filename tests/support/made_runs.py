"""Runs with images that exist in the ledger only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from db.ingest import RunIngest, ScannedFile
from db.leases import Lease, lease_chunk, record_results
from db.ledger import Ledger
from db.runs import Run, open_run
from db.schema import chunks, images, results


def some_files(count: int, first: int = 0, size: int = 10) -> list[ScannedFile]:
    return [ScannedFile(f"ward/x{number:04}.png", size, 1000) for number in range(first, first + count)]


def open_some_run(
    ledger: Ledger, root: str = "/archive", chunk_size: int = 4, **given: Any
) -> tuple[Run, bool]:
    asked: dict[str, Any] = {
        "output": "/overlays",
        "options": {"layers": []},
        "model_version": "first",
        "pinned": False,
    }
    return ledger.write(open_run, root=root, chunk_size=chunk_size, **(asked | given))


def take(ledger: Ledger, files: list[ScannedFile], batch: int = 7, **given: Any) -> tuple[Run, RunIngest]:
    """What an enqueue does: open the run, add all files in batches, close."""
    run, is_new = open_some_run(ledger, **given)
    intake = RunIngest(ledger, run, is_new=is_new)
    for start in range(0, len(files), batch):
        intake.add(files[start : start + batch])
    intake.close()
    return run, intake


def lease(ledger: Ledger, run: Run, number: int, owner: str = "one", seconds: float = 60.0) -> Lease:
    found = ledger.write(lease_chunk, run.id, number, owner, seconds)
    assert isinstance(found, Lease), found
    return found


def finish(ledger: Ledger, held: Lease, status: str = "done", **columns: Any) -> None:
    """Record one result for each image of a lease."""
    ledger.write(
        record_results, held, [{"image_id": image.id, "status": status, **columns} for image in held.images]
    )


def counts_by_rows(ledger: Ledger, run: Run) -> dict[int, tuple[int, int, int]]:
    """Images, done and failed of each chunk, counted one by one."""
    status = results.c.status
    with ledger.read() as connection:
        found = connection.execute(
            select(
                images.c.chunk,
                func.count(),
                func.count().filter(status == "done"),
                func.count().filter(status == "failed"),
            )
            .select_from(images.outerjoin(results))
            .where(images.c.run_id == run.id)
            .group_by(images.c.chunk)
        ).all()
    return {chunk: (total, done, failed) for chunk, total, done, failed in found}


def counts_of_chunks(ledger: Ledger, run: Run) -> dict[int, tuple[int, int, int]]:
    """The same as the rows of the chunks say it."""
    with ledger.read() as connection:
        found = connection.execute(
            select(chunks.c.number, chunks.c.images, chunks.c.done, chunks.c.failed).where(
                chunks.c.run_id == run.id
            )
        ).all()
    return {number: (total, done, failed) for number, total, done, failed in found}


def paths(ledger: Ledger, run: Run) -> list[str]:
    with ledger.read() as connection:
        found = connection.execute(select(images.c.path).where(images.c.run_id == run.id)).scalars()
        return sorted(found)
