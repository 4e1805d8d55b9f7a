"""Ends the process when one step hangs: a decoder stuck in native code heeds nothing gentler.

Celery then sees a lost worker, runs the chunk again, and the attempts in the ledger find the culprit.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

# Celery puts an object without a file descriptor in the place of sys.stderr.
STANDARD_ERROR = 2


class Watchdog:
    """Kills this process unless `step` is called again within `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def step(self) -> None:
        """Allow another `seconds`. The timer is a thread in C that needs no interpreter lock."""
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=STANDARD_ERROR)


@contextmanager
def watchdog(seconds: float) -> Iterator[Watchdog]:
    """A watchdog that is off again at the end of the block."""
    dog = Watchdog(seconds)
    dog.step()
    try:
        yield dog
    finally:
        faulthandler.cancel_dump_traceback_later()
