"""Processes that read and draw for a pipeline, where threads would wait for each other.

Threads of one process share Python's lock, which each image holds for a while, so that there is a number of
images a second that no number of processors exceeds. An image is drawn by the process that read it: what
passes between processes is the network's input, the map and the result, never the radiograph.
"""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import tempfile
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from worker.environment import python_command
from worker.errors import StorageError
from worker.images.limits import Limits


class FeedProcessEnded(Exception):
    """Raised when a process dies over its images: its images are tried again, each image for itself."""


@dataclass(frozen=True)
class Place:
    """Where an image that was read waits to be drawn."""

    process: _Process
    key: int


@dataclass(eq=False)
class _Process:
    popen: subprocess.Popen[bytes]
    connection: Connection
    sending: threading.Lock = field(default_factory=threading.Lock)
    waiting: dict[int, Future[Any]] = field(default_factory=dict)
    has_ended: bool = False


class FeedProcesses:
    """`count` processes with `threads` to read and as many to draw each. One caller at a time."""

    def __init__(self, count: int, threads: int, limits: Limits) -> None:
        self._threads, self._limits = threads, limits
        # Locked while an image is worked on that is larger than a process may have at once.
        self._large = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as we are
        self._next_key = 0
        self._processes = [self._start(count) for _ in range(count)]

    def _start(self, count: int) -> _Process:
        ours, theirs = socket.socketpair()
        with theirs:
            words = (theirs.fileno(), self._large.fileno(), os.getpid(), self._threads, count)
            popen = subprocess.Popen(
                [*python_command("worker.explain.feed_process"), *map(str, words)],
                cwd=Path(__file__).resolve().parents[2],
                stdin=subprocess.DEVNULL,
                pass_fds=words[:2],
            )
        process = _Process(popen, Connection(ours.detach()))
        process.connection.send(self._limits)
        threading.Thread(target=self._receive, args=(process,), name="feed", daemon=True).start()
        return process

    def begin(self, job: Any) -> None:
        """Say what the images that follow are read and drawn for. Processes that died are replaced."""
        content = pickle.dumps(("job", 0, job))
        for number, process in enumerate(self._processes):
            if process.has_ended or process.popen.poll() is not None:
                _end(process)
                self._processes[number] = self._start(len(self._processes))
            self._send(self._processes[number], content)

    def wait_until_ready(self) -> None:
        """Wait until all have started. Raises FeedProcessEnded."""
        places = [Place(process, -number) for number, process in enumerate(self._processes, 1)]
        for future in [self._ask(place, "ready", None) for place in places]:
            future.result()

    def read(self, task: Any) -> tuple[Future[Any], Place]:
        """Have an image read by the process that has least to do."""
        process = min(self._processes, key=lambda one: len(one.waiting))
        self._next_key += 1
        place = Place(process, self._next_key)
        return self._ask(place, "read", task), place

    def draw(self, place: Place, explanation: Any) -> Future[Any]:
        """Have an image drawn where it was read."""
        return self._ask(place, "draw", explanation)

    def forget(self, place: Place) -> None:
        """An image that was read is not to be drawn."""
        self._send(place.process, pickle.dumps(("forget", place.key, None)))

    def forget_all(self) -> None:
        """Images begun are not wanted any more; what is being written is finished."""
        for process in self._processes:
            process.waiting.clear()
            self._send(process, pickle.dumps(("forget", 0, None)))

    def close(self) -> None:
        """End the processes, after the files they are writing."""
        for process in self._processes:
            _end(process)
        self._large.close()

    def _ask(self, place: Place, what: str, about: Any) -> Future[Any]:
        future: Future[Any] = Future()
        place.process.waiting[place.key] = future
        self._send(place.process, pickle.dumps((what, place.key, about), pickle.HIGHEST_PROTOCOL))
        if place.process.has_ended:
            _fail(place.process)
        return future

    def _send(self, process: _Process, content: bytes) -> None:
        try:
            with process.sending:
                process.connection.send_bytes(content)
        except OSError:
            process.has_ended = True

    def _receive(self, process: _Process) -> None:
        while True:
            try:
                key, value, error = process.connection.recv()
            except (OSError, EOFError):
                break
            future = process.waiting.pop(key, None)
            if future is None or not future.set_running_or_notify_cancel():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(StorageError(value) if error == "storage" else RuntimeError(value))
        process.has_ended = True
        _fail(process)


def _fail(process: _Process) -> None:
    while process.waiting:
        try:
            _, future = process.waiting.popitem()
        except KeyError:
            return
        if future.set_running_or_notify_cancel():
            status = process.popen.poll()
            future.set_exception(FeedProcessEnded(f"a process that reads and draws ended ({status})"))


def _end(process: _Process) -> None:
    """End it by what it waits for: the end of its input."""
    process.has_ended = True
    try:
        socket.socket(fileno=os.dup(process.connection.fileno())).shutdown(socket.SHUT_WR)
        process.popen.wait(10)
    except (OSError, subprocess.TimeoutExpired):
        process.popen.kill()
        process.popen.wait()
    process.connection.close()
