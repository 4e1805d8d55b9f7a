"""Where a command finds the process that keeps workers warm, and how the two talk: a line of JSON each way.

A file in the home names a socket. Both belong to this user alone: what is sent holds settings with passwords.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from worker.settings import Settings

Message = dict[str, Any]

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LARGEST_FILE = 10_000
_LARGEST_MESSAGE = 10_000_000


class Closed(Exception):
    """Raised when the other side has closed a channel, or sends what no side of ours does."""


class NotWarm(Exception):
    """Raised when workers that are kept warm cannot be used; says why.

    `make_room`: whether others may be kept in their place.
    """

    def __init__(self, why: str, *, make_room: bool = False) -> None:
        super().__init__(why)
        self.make_room = make_room


class Channel:
    """Messages over a connected socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._received = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, **message: Any) -> None:
        """Raises Closed."""
        try:
            self._socket.settimeout(5.0)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise Closed from error

    def receive(self, seconds: float) -> Message | None:
        """The next message; None where none comes within `seconds`. Raises Closed."""
        end = time.monotonic() + seconds
        while b"\n" not in self._received:
            # A timeout of 0 reads what is there already.
            try:
                self._socket.settimeout(max(0.0, end - time.monotonic()))
                part = self._socket.recv(65536)
            except (TimeoutError, BlockingIOError):
                return None
            except OSError as error:
                raise Closed from error
            if not part or len(self._received) > _LARGEST_MESSAGE:
                raise Closed
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError:
            raise Closed from None
        if not isinstance(message, dict):
            raise Closed
        return message

    def close(self) -> None:
        self._socket.close()


def folder_of(settings: Settings) -> Path:
    return settings.home / "warm"


def place_of_file(settings: Settings) -> Path:
    """The file that says where the workers kept warm on this machine are."""
    # Several machines may share a home, none of which reaches the workers of another.
    return folder_of(settings) / f"{_host()}.json"


def place_of_lock(settings: Settings) -> Path:
    """Locked by the one process that keeps workers warm for a home on this machine."""
    return folder_of(settings) / f"{_host()}.lock"


def _host() -> str:
    return socket.gethostname().replace("/", "_") or "localhost"


def write_file(file: Path, listening: Path) -> os.stat_result:
    """Name the socket in the file, written whole, for this user alone; what the file is now known by."""
    unfinished = file.with_name(f".{file.name}-{os.getpid()}")
    with suppress(FileNotFoundError):
        unfinished.unlink()
    handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as stream:
        json.dump({"socket": str(listening), "pid": os.getpid()}, stream)
        stream.flush()
        written = os.fstat(stream.fileno())
    unfinished.replace(file)
    return written


def is_file(file: Path, written: os.stat_result) -> bool:
    """Whether the file is still the one that was written; a disk that does not answer now may have it."""
    try:
        found = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return (found.st_dev, found.st_ino) == (written.st_dev, written.st_ino)


def connect(settings: Settings) -> Channel | None:
    """A channel to the process that keeps workers warm; None where there is none. Raises NotWarm."""
    file = place_of_file(settings)
    if not os.path.lexists(file):
        return None
    listening = _socket_in(file)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(2.0)
    try:
        connected.connect(str(listening))
    except OSError:
        connected.close()
        _remove_remains(settings)
        raise NotWarm("they are no longer alive", make_room=True) from None
    return Channel(connected)


def _socket_in(file: Path) -> Path:
    """Raises NotWarm."""
    try:
        with os.fdopen(os.open(file, _OPEN), "rb") as stream:
            _require_ours(os.fstat(stream.fileno()))
            listening = Path(json.loads(stream.read(_LARGEST_FILE))["socket"])
        if listening.parent.exists():
            _require_ours(listening.parent.lstat())
    except PermissionError:
        raise NotWarm("they are of another user") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise NotWarm(f"{file} cannot be read") from None
    return listening


def _require_ours(status: os.stat_result) -> None:
    """Raises PermissionError for what another user made, or may read or write in."""
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise PermissionError


def lock(settings: Settings) -> int | None:
    """A descriptor that holds the home's lock until it is closed; None where another process holds it."""
    folder_of(settings).mkdir(parents=True, exist_ok=True)
    handle = os.open(place_of_lock(settings), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove_remains(settings: Settings) -> None:
    """Remove the file of a process that was killed."""
    with suppress(OSError):
        held = lock(settings)
        if held is not None:
            place_of_file(settings).unlink(missing_ok=True)
            os.close(held)
