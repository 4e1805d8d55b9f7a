"""The chunks that a worker holds: renewed together, each recorded when its last image has its row."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from db.leases import Lease, lease_following, record_results, release_lease, renew_lease
from db.ledger import Ledger


class HeldLeases:
    """Leases of one run: that of a message, and those of chunks that were begun before it was done.

    `seconds`: how long a lease lasts that is not renewed.
    """

    def __init__(self, ledger: Ledger, owner: str, seconds: float, first: Lease) -> None:
        self._ledger, self._owner, self._seconds = ledger, owner, seconds
        self._leases = {first.number: first}
        self._last = first
        # A lease is not renewed while its chunk is being finished, which would read as lost.
        self._lock = threading.RLock()

    def renew(self) -> bool:
        """Renew all; false when one is no longer ours."""
        with self._lock:
            return not [
                lease
                for lease in self._leases.values()
                if not self._ledger.write(renew_lease, lease, self._owner, self._seconds)
            ]

    def take_following(self) -> Lease | None:
        """Lease the next chunk, unless there is none for us."""
        found = self._ledger.write(
            lease_following, self._last, list(self._leases), self._owner, self._seconds
        )
        if found is not None:
            with self._lock:
                self._leases[found.number] = found
            self._last = found
        return found

    def record(self, lease: Lease, rows: Sequence[dict[str, Any]], *, is_last: bool) -> None:
        """Record results of a chunk; `is_last`: it has no other."""
        with self._lock:
            self._ledger.write(record_results, lease, rows)
            if is_last:
                self._leases.pop(lease.number, None)

    def release(self) -> None:
        """Give back what is not finished; its images are not to blame."""
        with self._lock:
            for lease in self._leases.values():
                self._ledger.write(release_lease, lease, self._owner)
            self._leases.clear()
