"""Keeps the lease of the chunk in hand while it is worked on."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from db.errors import LedgerError
from db.ledger import Ledger
from db.work import Lease, renew_lease

log = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews a lease three times per lease time, in a thread; `lost` once it cannot be renewed.

    A lease is lost when the run was cancelled, or when we were silent for so long that another worker
    has the chunk.
    """

    def __init__(self, ledger: Ledger, lease: Lease, owner: str, seconds: float) -> None:
        self._ledger = ledger
        self._lease = lease
        self._owner = owner
        self._seconds = seconds
        self._end = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

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

    def _renew(self) -> None:
        while not self._end.wait(self._seconds / 3):
            try:
                if not renew_lease(self._ledger, self._lease, self._owner, self._seconds):
                    self._lost.set()
                    return
            except LedgerError as error:
                log.warning("the lease of run %d chunk %d is not renewed: %s", self._lease.run_id,
                            self._lease.number, error)  # fmt: skip
