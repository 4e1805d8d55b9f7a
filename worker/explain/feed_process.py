"""One process that reads and draws: `python -m worker.explain.feed_process SOCKET LOCK PARENT THREADS OF`.

It ends when the process that started it does, however that ends: the kernel closes the other end of the
socket, and on Linux kills it, should it hang in a decoder. It imports no TensorFlow.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, cast

from worker.errors import StorageError
from worker.explain.image_result import ImageResult
from worker.explain.job import Job, ReadImage
from worker.explain.pipeline import Pipeline
from worker.images.limits import pixel_budget

_PR_SET_PDEATHSIG = 1


def main() -> None:
    descriptor, lock, parent, threads, count = (int(word) for word in sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker says when to stop
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    pixel_budget.share(partial(_locked, lock))
    connection = Connection(descriptor)
    with Pipeline(threads, threads, limits=connection.recv(), share=count) as pipeline:
        _Feed(pipeline, connection).serve()


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Alone among the processes that have this file; the kernel unlocks it where one dies."""
    fcntl.lockf(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(descriptor, fcntl.LOCK_UN)


class _Feed:
    def __init__(self, pipeline: Pipeline, connection: Connection) -> None:
        self._pipeline, self._connection = pipeline, connection
        self._sending = threading.Lock()
        self._job: Job | None = None
        # By key: what was read, None while it is.
        self._images: dict[int, ReadImage | None] = {}
        self._futures: set[Future[Any]] = set()

    def serve(self) -> None:
        """Do what is asked until nobody can ask any more."""
        while True:
            try:
                what, key, about = self._connection.recv()
            except (EOFError, OSError):
                return
            if what == "job":
                self._job = about
            elif what == "read":
                self._images[key] = None
                self._begin(key, self._pipeline.read, about)
            elif what == "draw":
                self._begin(key, self._pipeline.draw, self._images.pop(key, None), about)
            elif what == "ready":
                self._send(key)
            elif key:
                self._images.pop(key, None)
            else:
                self._images.clear()
                for future in list(self._futures):
                    future.cancel()

    def _begin(self, key: int, stage: Any, *about: Any) -> None:
        future = stage(self._job, *about)
        self._futures.add(future)
        future.add_done_callback(partial(self._answer, key))

    def _answer(self, key: int, future: Future[Any]) -> None:
        self._futures.discard(future)
        if future.cancelled():
            return
        value, error = None, future.exception()
        if error is None:
            value = future.result()
            if isinstance(value, ImageResult):
                self._images.pop(key, None)
                value = replace(value, task=cast(Any, None))  # the other side knows it
            elif key in self._images:
                self._images[key] = value
                value = replace(value, task=None, radiograph=None)
            else:
                return  # not wanted any more
        if error is None:
            self._send(key, value)
        elif isinstance(error, StorageError):
            self._send(key, str(error), "storage")
        else:
            self._send(key, f"{type(error).__name__}: {error}", "error")

    def _send(self, key: int, value: Any = None, error: str | None = None) -> None:
        with suppress(OSError), self._sending:
            self._connection.send((key, value, error))


if __name__ == "__main__":
    main()
