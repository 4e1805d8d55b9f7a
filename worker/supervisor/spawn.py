"""Starting one worker process; imports little, so that it can be done before a command knows what to do."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from worker.environment import child_environment, python_command
from worker.processors import processors_of_each
from worker.queue.messages import TRAIN_QUEUE
from worker.settings import Settings
from worker.supervisor.devices import Device


@dataclass(frozen=True)
class SpawnedWorker:
    """A process that was just started, and where its part of the log begins."""

    process: subprocess.Popen[bytes]
    log_start: int


def node_name(queue: str, device: Device) -> str:
    """The name of our worker of this queue and device."""
    return f"{queue}-{device.name}-{os.getpid()}@{socket.gethostname()}"


def worker_environment(settings: Settings, queue: str, device: Device, devices: int) -> dict[str, str]:
    """The environment of a worker of this queue and device, one of `devices`, but for its name."""
    return child_environment(
        settings,
        CUDA_VISIBLE_DEVICES=device.visible,
        XRAYCAM_WORKER_QUEUE=queue,
        XRAYCAM_THREADS=str(settings.threads or processors_of_each(devices)),
        TF_CPP_MIN_LOG_LEVEL=os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    )


def spawn_worker(
    settings: Settings, name: str, queue: str, device: Device, log_file: Path | None, devices: int = 1
) -> SpawnedWorker:
    """Start a Celery worker pinned to a device, one of `devices` that share the processors; `log_file`
    None: it logs to our own standard error."""
    options = [
        "--hostname", name, "--queues", queue, "--loglevel", settings.log_level,
        "--without-gossip", "--without-mingle", "--task-events",
    ]  # fmt: skip
    if queue == TRAIN_QUEUE:
        # TensorFlow gives memory back, on a GPU above all, only when its process ends.
        # One that waits is not to wait for a busy trainer while another is free.
        options += ["--max-tasks-per-child", "1", "--disable-prefetch"]
    environment = worker_environment(settings, queue, device, devices) | {"XRAYCAM_WORKER_NAME": name}
    stream = None
    log_start = 0
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        stream = log_file.open("ab")
        log_start = stream.tell()
    try:
        process = subprocess.Popen(
            [*python_command("worker.supervisor.worker_process"), *options],
            env=environment,
            # Our packages, not what happens to be called `worker` where the user stands.
            cwd=Path(__file__).resolve().parents[2],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT if stream else None,
            # Ctrl-C in a terminal reaches us alone; we tell the workers how to stop.
            start_new_session=True,
        )
    finally:
        if stream is not None:
            stream.close()
    return SpawnedWorker(process, log_start)
