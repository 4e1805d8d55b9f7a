"""Images of a run whose files are no more: found by a scan, marked, counted; their results stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, func, select, update

from db.dialect import in_array, now
from db.schema import images, results

_BLOCK = 4096


class IdSet:
    """A set of row numbers, a bit each where they lie close together."""

    def __init__(self) -> None:
        self._blocks: dict[int, int] = {}

    def update(self, keys: Iterable[int]) -> None:
        for key in keys:
            self._blocks[key // _BLOCK] = self._blocks.get(key // _BLOCK, 0) | 1 << key % _BLOCK

    def __contains__(self, key: int) -> bool:
        return bool(self._blocks.get(key // _BLOCK, 0) >> key % _BLOCK & 1)


def last_image(connection: Connection, run_id: int) -> int:
    """The highest number of an image in a run; 0 without any."""
    return connection.execute(select(func.max(images.c.id)).where(images.c.run_id == run_id)).scalar() or 0


def images_between(
    connection: Connection, run_id: int, after: int, last: int, limit: int
) -> list[tuple[int, str]]:
    """Number and path of the next `limit` images of a run, numbered above `after`, `last` at most."""
    statement = (
        select(images.c.id, images.c.path)
        .where(images.c.run_id == run_id, images.c.id > after, images.c.id <= last)
        .order_by(images.c.id)
        .limit(limit)
    )
    return [(int(key), str(path)) for key, path in connection.execute(statement)]


def mark_gone(connection: Connection, keys: Sequence[int]) -> None:
    """Note that the files of these images are no more; one noted before keeps its time."""
    connection.execute(
        update(images)
        .where(in_array(images.c.id, keys, connection), images.c.gone_at.is_(None))
        .values(gone_at=now())
    )


def mark_found(connection: Connection, keys: Sequence[int]) -> None:
    """Note that the files of these images are there again."""
    connection.execute(update(images).where(in_array(images.c.id, keys, connection)).values(gone_at=None))


def count_gone(connection: Connection, run_id: int) -> dict[str | None, int]:
    """How many images of a run are gone, by the class they were predicted as; None: by none."""
    statement = (
        select(results.c["class"], func.count())
        .select_from(images.outerjoin(results, results.c.image_id == images.c.id))
        .where(images.c.run_id == run_id, images.c.gone_at.is_not(None))
        .group_by(results.c["class"])
    )
    return {name: int(count) for name, count in connection.execute(statement)}
