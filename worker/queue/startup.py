"""Whether a worker's child can work at all: counted across its restarts, and the end of a worker that cannot.

Under prefork Celery replaces a child that dies, or whose every task fails, for ever, and its main process
looks healthy meanwhile. What both share here lets the child end the main process, and the supervisor see why.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

from celery.signals import worker_shutting_down

# A worker process that ends with this status never came so far as to take work (EX_CONFIG of sysexits.h).
CANNOT_START = 78
_STARTS_ALLOWED = 3

# Made when the main process imports this module, so that the children it forks share it.
_starts = multiprocessing.get_context("fork").Value("i", 0)
_gave_up = multiprocessing.get_context("fork").Event()
# Without a lock, in which a child that is killed would leave the main process.
_shutting_down = multiprocessing.get_context("fork").RawValue("i", 0)


class WorkerBroken(Exception):
    """Raised when a worker fails before it has leased work: a fault of the worker, not of a chunk."""


def child_starts() -> bool:
    """Note that a child starts; false after three that died before they were ready."""
    with _starts.get_lock():
        _starts.value += 1
        return bool(_starts.value <= _STARTS_ALLOWED)


def child_is_ready() -> None:
    """Note that the child can work."""
    _starts.value = 0


def end_worker() -> None:
    """From the child: have the whole worker end, with status CANNOT_START."""
    _gave_up.set()
    os.kill(os.getppid(), signal.SIGTERM)


@worker_shutting_down.connect
def _note_shutdown(**_: Any) -> None:
    _shutting_down.value = 1


def is_shutting_down() -> bool:
    """Whether this worker was told to end, so that no more work may be begun than it has."""
    return bool(_shutting_down.value)


def gave_up() -> bool:
    """Whether a child said that this worker cannot work."""
    return _gave_up.is_set()
