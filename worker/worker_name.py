"""What this worker process is called in the ledger."""

from __future__ import annotations

import os
import socket


def worker_name() -> str:
    """The name the launcher gave; without a launcher, process number and host."""
    return os.environ.get("XRAYCAM_WORKER_NAME") or f"{os.getpid()}@{socket.gethostname()}"
