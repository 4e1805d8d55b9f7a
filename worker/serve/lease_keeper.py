"""Keeps the lease of what is in hand while it is worked on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType

from db.errors import LedgerError

log = logging.getLogger(__name__)


class LeaseKeeper:
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

    def __enter__(self) -> LeaseKeeper:
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
