"""What bounds a piece of work: a lease that is renewed meanwhile, and a watchdog for one that hangs."""

from __future__ import annotations

import faulthandler
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from db.errors import LedgerError

log = logging.getLogger(__name__)


class LeaseRenewer:
    """Calls `renew` every `period` seconds, in a thread; `lost` once that says no.

    A lease is lost when the work was cancelled, or when we were silent for so long that another worker
    has it. `what` names the work in the log.
    """

    def __init__(self, renew: Callable[[], bool], period: float, what: str) -> None:
        self._renew = renew
        self._period = period
        self._what = what
        self._end = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def lost(self) -> bool:
        return self._lost.is_set()

    def __enter__(self) -> LeaseRenewer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._end.wait(self._period):
            try:
                if not self._renew():
                    self._lost.set()
                    return
            except LedgerError as error:
                log.warning("the lease of %s is not renewed: %s", self._what, error)


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
