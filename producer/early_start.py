"""Broker and workers that start while a folder is scanned, for a run on this machine, or are found warm;
imports little."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import SecretStr

from producer.private_broker import PrivateBroker
from producer.warm_workers import WarmWorkers, find_or_start_warm
from worker.errors import XraycamError
from worker.queue.messages import EXPLAIN_QUEUE
from worker.remote.folder import RemoteFolder
from worker.settings import Settings
from worker.supervisor.devices import Device, devices_for
from worker.supervisor.spawn import SpawnedWorker, node_name, spawn_worker


class EarlyStart:
    """What has been started and awaits an owner. They end with us, however we end: we hold their input."""

    def __init__(self, settings: Settings, devices: list[Device]) -> None:
        self.devices = devices
        self.broker: PrivateBroker | None = PrivateBroker(settings)
        self.workers: dict[str, SpawnedWorker] = {}
        try:
            self.broker.begin()
            settings = settings.model_copy(update={"broker_url": SecretStr(self.broker.url)})
            for device in devices:
                name = node_name(EXPLAIN_QUEUE, device)
                log_file = settings.home / "logs" / f"{name}.log"
                self.workers[name] = spawn_worker(
                    settings, name, EXPLAIN_QUEUE, device, log_file, len(devices)
                )
        except BaseException:
            self.end()
            raise

    def hand_over(self) -> tuple[PrivateBroker, dict[str, SpawnedWorker]]:
        """All of it, which the caller stops from now on."""
        assert self.broker is not None
        given = self.broker, self.workers
        self.broker, self.workers = None, {}
        return given

    def end(self) -> None:
        """End at once what was not handed over: it has been given no work."""
        for worker in self.workers.values():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(worker.process.pid, signal.SIGKILL)
            worker.process.wait()
            if worker.process.stdin is not None:
                worker.process.stdin.close()
        self.workers = {}
        if self.broker is not None:
            self.broker.stop()
            self.broker = None


@contextmanager
def early_start(
    settings: Settings,
    gpus: str,
    folder: Path | RemoteFolder | str,
    keep_warm: float | None = None,
    tell: Callable[[str], object] = str,
) -> Iterator[EarlyStart | WarmWorkers | None]:
    """A private broker and the workers for a run of `folder`, None where they are not needed or do not start;
    why they do not is said by whoever needs them. What has no owner at the end of the block is ended.

    Workers that an earlier run kept warm come first; `tell` is told why those are not used. `keep_warm`:
    seconds for which others are to stay warm after the run.
    """
    early: EarlyStart | WarmWorkers | None = None
    is_there = isinstance(folder, RemoteFolder) or (isinstance(folder, Path) and folder.expanduser().exists())
    if settings.broker is None and is_there:
        settings.apply_umask()
        with suppress(XraycamError, OSError):
            devices = devices_for(gpus)
            early = find_or_start_warm(settings, devices, keep_warm, tell) or EarlyStart(settings, devices)
    try:
        yield early
    finally:
        if early is not None:
            early.end()
