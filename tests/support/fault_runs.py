"""What the promise means in numbers: one row per image, one overlay per done row, counts that agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from db.schema import chunks, images, results
from tests.support.installation import Installation, command_of, draw_many, parent_of
from tests.support.servers import wait_until

IMAGES = 300

NoteFault = Callable[..., None]


def draw_xrays_of(installation: Installation, count: int = IMAGES, **settings: Any) -> Path:
    """Images of an installation whose accelerator is a stand-in of about 150 images/s, in chunks of 8."""
    installation.set(**{"chunk_size": 8, "lease_timeout": 5, "shutdown_grace_period": 10, **settings})
    installation.sabotage(explainer=0.007)
    return draw_many(installation.folder / "xrays", count)


# A fault test runs on one database, SQLite unless marked; `tests/db` holds the ledger's promises on both.
on_postgres = pytest.mark.parametrize("distributed", ["postgres"], indirect=True)


def run_under_way(installation: Installation, xrays: Path) -> None:
    """Start a worker, enqueue, and wait until forty images are done."""
    installation.start("worker")
    enqueue(installation, xrays)
    installation.wait_done(40)


def lose_machine(installation: Installation, launcher: int) -> float:
    """Kill a launcher and all its workers together, with a leased chunk; seconds until others did that.

    Nobody is left there to send anything again: its lease must end (5 s), a reaper find it, a worker do it.
    On a busy machine that takes longer; a minute is still far from the hour that a wrong clock would add.
    """
    wait_until(lambda: leased_chunks(installation, f"-{launcher}@"), 60, "both at work")
    installation.wait_done(40)
    wait_until(lambda: leased_chunks(installation, f"-{launcher}@"), 60, "a leased chunk")
    held = leased_chunks(installation, f"-{launcher}@")
    for process in family_of(launcher):
        installation.kill(process)
    seconds = seconds_until_finished(installation, held)
    assert seconds < 60
    return seconds


def enqueue(installation: Installation, xrays: Path) -> None:
    assert installation.xraycam("enqueue", xrays).stdout.strip() == "1"


def assert_each_once(installation: Installation, count: int = IMAGES, *, attempts: int | None = None) -> None:
    """Exactly one row per image, counts of chunks that agree with the rows, one overlay per done row.

    `attempts`: the most that any image may have had; None: the limit.
    """
    assert installation.counts() == {"images": count, "done": count}
    with installation.ledger.read() as connection:
        rows = connection.execute(
            select(results.c.image_id, results.c.overlay).where(results.c.run_id == 1)
        ).all()
        counted = connection.execute(select(chunks.c.images, chunks.c.done, chunks.c.finished_at)).all()
        most = connection.execute(select(func.max(images.c.attempts))).scalar_one()
    assert len({row.image_id for row in rows}) == count
    written = {str(path) for path in installation.home.glob("overlays/run-000001/**/*.jpg")}
    assert {row.overlay for row in rows} == written
    assert not list(installation.home.glob("overlays/**/.unfinished-*"))
    assert sum(chunk.done for chunk in counted) == count
    assert all(chunk.done == chunk.images and chunk.finished_at for chunk in counted)
    assert 1 <= most <= (attempts or 3)


def nodes(installation: Installation) -> list[int]:
    """The Celery main processes."""
    found = [
        number
        for number in installation.processes()
        if "worker.supervisor.worker_process" in command_of(number)
    ]
    return [number for number in found if parent_of(number) not in found]


def children(installation: Installation) -> list[int]:
    """The prefork children, which hold the model."""
    found = [
        number
        for number in installation.processes()
        if "worker.supervisor.worker_process" in command_of(number)
    ]
    return [number for number in found if parent_of(number) in found]


def family_of(process: int) -> list[int]:
    """A process and all that come from it."""
    found = [process]
    everyone = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    parents = {number: parent_of(number) for number in everyone}
    for number in found:
        found += [child for child, parent in parents.items() if parent == number]
    return found


def leased_chunks(installation: Installation, of: str = "") -> list[int]:
    """Chunks that are leased, to workers whose name holds `of`."""
    with installation.ledger.read() as connection:
        held = connection.execute(
            select(chunks.c.number, chunks.c.owner).where(
                chunks.c.owner.is_not(None), chunks.c.finished_at.is_(None)
            )
        ).all()
    return [chunk.number for chunk in held if of in chunk.owner]


def seconds_until_finished(installation: Installation, numbers: list[int], within: float = 120) -> float:
    """Wait until these chunks are finished; how long that took."""
    start = time.monotonic()

    def finished() -> bool:
        with installation.ledger.read() as connection:
            left = connection.execute(
                select(func.count()).where(chunks.c.number.in_(numbers), chunks.c.finished_at.is_(None))
            ).scalar_one()
        return not left

    wait_until(finished, within, f"chunks {numbers} finished")
    return time.monotonic() - start


def seconds_until_more_done(installation: Installation, within: float = 120) -> float:
    """Wait until one more image is done; how long that took."""
    start = time.monotonic()
    before = installation.counts().get("done", 0)
    installation.wait_done(before + 1, seconds=within)
    return time.monotonic() - start
