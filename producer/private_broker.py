"""A Valkey server of our own, for a run on one machine, kept by `producer/private_broker_process.py`.

It is a process of its own so that Ctrl-C does not reach it before us, and it ends when we do, however
that happens: we hold the other end of its standard input, which the kernel closes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from worker.environment import child_environment, python_command
from worker.errors import XraycamError
from worker.settings import Settings

_LONGEST_FOLDER = 70
_SIMPLE_PATH = re.compile(rf"/[A-Za-z0-9/_.+-]{{0,{_LONGEST_FOLDER - 1}}}")


class PrivateBroker:
    """Starts the server; `url` is what Celery wants; `ensure` starts it again if it died."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="xraycam-broker-", dir=_folder_for_sockets()))
        self.socket = self.folder / "valkey.sock"
        self.url = f"redis+socket://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False

    @property
    def pid(self) -> int | None:
        """The process that keeps the server."""
        return self._process.pid if self._process is not None else None

    def begin(self) -> None:
        """Start the server without waiting until it answers, as `ensure` does. Raises OSError."""
        self._is_ready = False
        self._process = subprocess.Popen(
            [*python_command("producer.private_broker_process"), str(self.socket)],
            env=child_environment(self._settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def ensure(self) -> bool:
        """Start the server unless it runs; true when it had to be started. Raises XraycamError."""
        if self._process is not None and self._process.poll() is None and self._is_ready:
            return False
        if self._process is None or self._is_ready:
            self.begin()
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        if self._process.stdout.readline() != b"ready\n":
            cause = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            raise XraycamError(
                f"no private Valkey server could be started: {cause[-1] if cause else 'no reason given'}; "
                "set XRAYCAM_BROKER_URL to a Redis or Valkey server"
            )
        self._is_ready = True
        return True

    def stop(self) -> None:
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


def _folder_for_sockets() -> str:
    """A folder to write to whose path fits into a socket's, and means the same in a URL and to Valkey.

    TMPDIR may be none: the kernel takes 107 bytes, and there may be signs in it such as % or #.
    Raises XraycamError.
    """
    named = (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - the socket lies in a folder of its own
    for folder in named:
        if _SIMPLE_PATH.fullmatch(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise XraycamError(
        f"no folder for the private server's socket: {', '.join(filter(None, named))} cannot be written "
        f"to, or their paths are over {_LONGEST_FOLDER} characters long or not of plain letters and digits; "
        "set XDG_RUNTIME_DIR or TMPDIR to a short path, or XRAYCAM_BROKER_URL to a Redis or Valkey server"
    )
