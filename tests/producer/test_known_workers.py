"""Workers are shown as they are: idle after a chunk, and not live once their launcher has ended."""

from __future__ import annotations

import os
import socket
import subprocess

from db.ledger import Ledger
from db.workers import register_worker
from producer.known_workers import known_workers, live_workers


def ended_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_worker_whose_launcher_has_ended_is_not_live(ledger: Ledger) -> None:
    here = socket.gethostname()
    for name, host, pid in (
        ("ended", here, ended_process()), ("lives", here, os.getpid()), ("elsewhere", "another", 1),
    ):  # fmt: skip
        ledger.write(register_worker, name=name, host=host, pid=pid, device="cpu", queues="explain")
    assert {worker.name: worker.is_live for worker in known_workers(ledger)} == {
        "ended": False, "lives": True, "elsewhere": True,
    }  # fmt: skip
    assert [worker.name for worker in live_workers(ledger)] == ["elsewhere", "lives"]
