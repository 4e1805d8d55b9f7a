"""Images from a PACS as files below the home folder: each whole or not there, bounded, names hashed."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from contextlib import suppress
from pathlib import Path

from worker.errors import XraycamError

SUFFIX = ".dcm"
_KEY = ".key"


class SpoolFull(XraycamError):
    """Raised when what is fetched or received takes as much room as it may."""


class Spool:
    """Files in folders below `root`. Names are keyed hashes of UIDs, which the ledger is not to hold."""

    def __init__(self, root: Path, limit: int) -> None:
        self.root = root
        self._limit = limit
        self._lock = threading.Lock()
        root.mkdir(parents=True, exist_ok=True)
        self._key = _kept_key(root / _KEY)
        self._size = self._counted()  # with what is being written
        self._in_progress = 0

    def name_of(self, uid: str) -> str:
        """A name for what has this UID, the same each time."""
        return hmac.new(self._key, uid.encode(), hashlib.sha256).hexdigest()[:32]

    def file_of(self, folder: str, uid: str) -> Path:
        return self.root / folder / f"{self.name_of(uid)}{SUFFIX}"

    def write(self, file: Path, content: bytes) -> bool:
        """Keep `content` as `file`, on the disk before this returns; false where just that is there already.

        Raises SpoolFull, OSError where it cannot be written.
        """
        replaced = 0
        with suppress(FileNotFoundError):
            replaced = file.stat().st_size
            if replaced == len(content) and file.read_bytes() == content:
                return False
        more = len(content) - replaced
        self._reserve(more)
        is_kept = False
        unfinished = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            unfinished.replace(file)
            is_kept = True
            _sync(file.parent)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
        finally:
            with self._lock:
                self._in_progress -= more
                self._size -= 0 if is_kept else more
        return True

    def _reserve(self, more: int) -> None:
        """Make room for so many bytes more. What people deleted is found when there is none: the files are
        counted again. Raises SpoolFull."""
        with self._lock:
            if self._size + more > self._limit:
                self._size = self._counted() + self._in_progress
            if self._size + more > self._limit:
                raise SpoolFull(
                    f"{self.root} would hold more than {self._limit:,} bytes, the limit; delete folders of "
                    "studies that are done, or raise XRAYCAM_SPOOL_BYTES"
                )
            self._size += more
            self._in_progress += more

    def _counted(self) -> int:
        """Bytes of all files; of those that are deleted meanwhile none."""
        size = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                if name.endswith(SUFFIX):
                    with suppress(FileNotFoundError):
                        size += Path(folder, name).stat().st_size
        return size


def _sync(folder: Path) -> None:
    """Have the names in a folder, and the folder's own, on the disk."""
    for path in (folder, folder.parent):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _kept_key(file: Path) -> bytes:
    """The key of this spool, made once; two processes that start at once agree on it."""
    with suppress(FileNotFoundError):
        return file.read_bytes()
    unfinished = file.with_name(f"{_KEY}.{secrets.token_hex(8)}")
    unfinished.write_bytes(secrets.token_bytes(32))
    with suppress(FileExistsError):
        os.link(unfinished, file)
    unfinished.unlink()
    return file.read_bytes()
