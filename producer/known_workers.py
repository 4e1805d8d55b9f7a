"""The workers in the ledger, as they can be known from this machine."""

from __future__ import annotations

import socket
from dataclasses import replace

from db.ledger import Ledger
from db.workers import Worker, list_workers
from worker.environment import is_alive


def known_workers(ledger: Ledger) -> list[Worker]:
    """All workers by name. One of this machine whose launcher has ended is not live, however lately it was
    heard of; of other machines the time of the last heartbeat decides."""
    host = socket.gethostname()
    return [
        replace(worker, is_live=False) if worker.host == host and not is_alive(worker.pid) else worker
        for worker in ledger.query(list_workers)
    ]


def live_workers(ledger: Ledger) -> list[Worker]:
    """Those of `known_workers` that are live."""
    return [worker for worker in known_workers(ledger) if worker.is_live]
