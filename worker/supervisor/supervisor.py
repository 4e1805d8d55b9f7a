"""Starts one pinned Celery worker per queue and device, restarts those that die, and stops them all."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from db.errors import LedgerError
from db.leases import release_leases_of
from db.ledger import Ledger
from db.trainings import requeue_trainings_of
from db.workers import list_workers, register_worker, remove_worker, update_worker
from worker.environment import is_alive
from worker.file_names import printable
from worker.queue.startup import CANNOT_START
from worker.settings import Settings
from worker.supervisor.devices import Device
from worker.supervisor.reaper import ALL_WORK, Reaper, ReaperScope
from worker.supervisor.spawn import SpawnedWorker, node_name, spawn_worker

log = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 10.0
QUICK_DEATH_SECONDS = 30.0
LONGEST_PAUSE = 30.0
LOG_TAIL_BYTES = 100_000
# The last line of a traceback, or of what Python says when it cannot start.
_ERROR_LINE = re.compile(r"(\w+\.)*\w*(Error|Exception|Refused|Unavailable)\b.*|Fatal Python error.*")
# TensorFlow calls it an error that a machine has no GPU.
_LOGGED_ERROR = re.compile(r"^(?!.*failed call to cuInit).*(ERROR|CRITICAL)")


@dataclass
class _WorkerSlot:
    """A place for a worker process; the process in it may be replaced."""

    name: str
    device: Device
    queue: str
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    next_start: float = 0.0
    consecutive_crashes: int = 0
    log_start: int = 0
    exit_codes: list[int] = field(default_factory=list)


class Supervisor:
    """The workers of this machine.

    `log_folder`: where each worker's log goes; None: to our own standard error. `scope`: whose lost work is
    sent again. `spawned`: workers that were started early, by name.
    Call `start`, then `tick` about once a second (or `run_until_stopped`), then `stop`.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        devices: Sequence[Device],
        queues: Sequence[str],
        log_folder: Path | None = None,
        scope: ReaperScope = ALL_WORK,
        spawned: Mapping[str, SpawnedWorker] | None = None,
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.log_folder = log_folder
        self.host = socket.gethostname()
        self.nodes = [
            _WorkerSlot(node_name(queue, device), device, queue) for queue in queues for device in devices
        ]
        self._stopping = threading.Event()
        self._next_heartbeat = 0.0
        self._reaper = Reaper(settings, ledger, scope)
        for node in self.nodes:
            if spawned is not None and node.name in spawned:
                self._adopt(node, spawned[node.name])

    @property
    def restarts(self) -> int:
        """How many worker processes died and were replaced."""
        return sum(len(node.exit_codes) for node in self.nodes)

    @property
    def is_crash_looping(self) -> bool:
        """Whether every worker died three times in a row soon after it was started."""
        return all(node.consecutive_crashes >= 3 for node in self.nodes)

    def start(self) -> None:
        """Give back what dead workers of this machine held, then start ours."""
        self.release_orphaned_leases()
        for node in self.nodes:
            # In a restarted container our dead predecessor had our host, our process number, our name.
            self.ledger.write(release_leases_of, node.name)
            self.ledger.write(requeue_trainings_of, node.name)
            self.ledger.write(
                register_worker,
                name=node.name,
                host=self.host,
                pid=os.getpid(),
                device=node.device.name,
                queues=node.queue,
            )
            if node.process is None:
                self._spawn(node)

    def run_until_stopped(self) -> None:
        """Supervise until `request_stop`, then stop."""
        while not self._stopping.wait(0.5):
            self.tick()
        self.stop()

    def request_stop(self) -> None:
        """Ask `run_until_stopped` to end; safe in a signal handler."""
        self._stopping.set()

    def tick(self) -> None:
        """Replace dead processes, send again what was lost, tell the ledger that our workers live."""
        moment = time.monotonic()
        for node in self.nodes:
            if node.process is not None and node.process.poll() is not None:
                self._on_worker_exit(node, moment)
            if node.process is None and moment >= node.next_start:
                self._spawn(node)
        self._reaper.tick()
        if moment >= self._next_heartbeat:
            self._next_heartbeat = moment + HEARTBEAT_SECONDS
            try:
                for node in self.nodes:
                    self.ledger.write(update_worker, node.name)
            except LedgerError as error:
                log.warning("no heartbeat: %s", error)

    def stop(self, *, idle: bool = False) -> None:
        """Stop all: first let each finish its chunk, then have it give the chunk back, then kill.

        A training is not finished: it stops after a batch, and another trainer continues it. `idle`: there is
        no work left for them, all results are recorded, and they are ended at once.
        """
        self._return_trainings()
        politely = ((signal.SIGTERM, self.settings.shutdown_grace_period), (signal.SIGQUIT, 10.0))
        stages = (*(() if idle else politely), (signal.SIGKILL, 10.0))
        for number, seconds in stages:
            alive = [node.process for node in self.nodes if node.process and node.process.poll() is None]
            for process in alive:
                _signal_group(process, number, only_leader=number != signal.SIGKILL)
            end = time.monotonic() + seconds
            for process in alive:
                try:
                    process.wait(max(0.0, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    log.warning("worker process %d does not end on %s", process.pid, number.name)
        for node in self.nodes:
            if node.process is not None:
                # A child that outlives its worker's main process must not go on holding the device.
                _signal_group(node.process, signal.SIGKILL)
                if node.process.stdin is not None:
                    node.process.stdin.close()
            try:
                self.ledger.write(release_leases_of, node.name, refund_attempts=True)
                self.ledger.write(remove_worker, node.name)
            except LedgerError as error:
                log.warning("worker %s is not signed off: %s", node.name, error)

    def _return_trainings(self) -> None:
        try:
            for node in self.nodes:
                self.ledger.write(requeue_trainings_of, node.name)
        except LedgerError as error:
            log.warning("trainings in progress are not given back: %s", error)

    def log_of(self, node: _WorkerSlot) -> Path | None:
        return None if self.log_folder is None else self.log_folder / f"{node.name}.log"

    def last_error_of(self, node: _WorkerSlot) -> str:
        """The last line of a worker's log since its last start that names an error; empty without one."""
        file = self.log_of(node)
        if file is None or not file.exists():
            return ""
        with file.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(node.log_start, end - LOG_TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").splitlines()
        found = [line.strip() for line in lines if _ERROR_LINE.match(line.strip())]
        found = found or [line.strip() for line in lines if _LOGGED_ERROR.search(line)]
        return printable(found[-1])[:300] if found else ""

    def _spawn(self, node: _WorkerSlot) -> None:
        devices = len({other.device for other in self.nodes})
        log_file = self.log_of(node)
        self._adopt(node, spawn_worker(self.settings, node.name, node.queue, node.device, log_file, devices))

    def _adopt(self, node: _WorkerSlot, spawned: SpawnedWorker) -> None:
        node.process, node.log_start = spawned.process, spawned.log_start
        node.started = time.monotonic()

    def _on_worker_exit(self, node: _WorkerSlot, moment: float) -> None:
        process = node.process
        assert process is not None  # narrows the type; callers look first
        _signal_group(process, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()
        node.process = None
        self._reaper.requeue_from_worker(node.name)
        with suppress(LedgerError):
            self.ledger.write(update_worker, node.name, activity=None)
        node.exit_codes.append(process.returncode)
        quick = process.returncode == CANNOT_START or moment - node.started < QUICK_DEATH_SECONDS
        node.consecutive_crashes = node.consecutive_crashes + 1 if quick else 1
        pause = min(LONGEST_PAUSE, 0.5 * 2 ** (node.consecutive_crashes - 1))
        node.next_start = moment + pause
        cause = self.last_error_of(node)
        log.warning(
            "worker %s ended with %d%s; again in %.1f s",
            node.name, process.returncode, f": {cause}" if cause else "", pause,
        )  # fmt: skip

    def look_after(self, run_id: int | None) -> None:
        """Send again the lost work of this run alone from now on; None: of no run."""
        self._reaper.scope = ReaperScope(run_id=run_id)

    def release_orphaned_leases(self) -> None:
        """Free the chunks of workers of this machine whose launcher is no more."""
        for worker in self.ledger.query(list_workers):
            if worker.host == self.host and worker.pid != os.getpid() and not is_alive(worker.pid):
                self.ledger.write(release_leases_of, worker.name)
                self.ledger.write(requeue_trainings_of, worker.name)
                self.ledger.write(remove_worker, worker.name)


def _signal_group(process: subprocess.Popen[bytes], number: int, *, only_leader: bool = False) -> None:
    try:
        if only_leader:
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass
