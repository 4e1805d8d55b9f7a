"""Fetching the next images while others are explained, bounded in bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeVar

from worker.remote.folder import RemotePath

# Of content that is fetched and not yet decoded.
LIMIT_BYTES = 256_000_000
# With 50 ms a request, so many at once are 2,500 images a second.
LIMIT_FILES = 128


class _Task(Protocol):
    @property
    def source(self) -> Any: ...


T = TypeVar("T", bound=_Task)


def read_ahead(
    tasks: Iterable[T],
    max_bytes: int,
    limit_bytes: int = LIMIT_BYTES,
    limit_files: int = LIMIT_FILES,
    following: Callable[[], Iterable[T] | None] | None = None,
) -> Generator[T]:
    """The tasks in their order, while the sources of those that follow are fetched, if they are remote.

    What is fetched and not yet read takes `limit_bytes` at most; one that does not fit is fetched by who
    reads it. `following`: asked for more tasks once a quarter of `limit_files` remains, until it has none.
    """
    remaining = iter(tasks)
    task = next(remaining, None)
    coming: deque[T] = deque()
    fetched: deque[RemotePath] = deque()
    held = 0
    try:
        while True:
            while fetched and not fetched[0].is_begun:
                held -= fetched.popleft().size or 0
            while task is None and following is not None and len(coming) <= limit_files // 4:
                more = following()
                if more is None:
                    following = None
                else:
                    remaining = iter(more)
                    task = next(remaining, None)
            while task is not None and len(coming) < limit_files:
                source = task.source
                size = source.size if isinstance(source, RemotePath) else None
                fits = size is not None and size <= max_bytes and held + size <= limit_bytes
                if fits:
                    source.begin_read(max_bytes)
                    fetched.append(source)
                    held += size or 0
                elif coming:
                    break
                coming.append(task)
                task = next(remaining, None)
                if not fits:
                    break
            if not coming:
                return
            yield coming.popleft()
    finally:
        for source in fetched:
            source.give_up()
