"""A folder that cannot be used at present is waited for; a file that cannot fails.

A full disk or a share that is gone would else fail every image of an archive, one after the other.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from worker.errors import StorageError
from worker.file_names import printable

# Whatever the file: disk or quota full, read-only, device or server gone, no descriptors left.
_OF_THE_WHOLE = {
    getattr(errno, name)
    for name in (
        "ENOSPC", "EDQUOT", "EROFS", "EIO", "ENODEV", "ENXIO", "ESTALE", "ENOTCONN", "EHOSTDOWN",
        "EHOSTUNREACH", "ETIMEDOUT", "EMFILE", "ENFILE",
    )
    if hasattr(errno, name)
}  # fmt: skip
# One bad sector is not the whole disk: only writing, which any sector serves, waits for it.
_OF_ONE_FILE_READ = {errno.EIO}


def require_readable(root: Path, error: OSError) -> None:
    """Raises StorageError if `error`, of reading a file below `root`, is due to the whole folder."""
    if error.errno in _OF_THE_WHOLE - _OF_ONE_FILE_READ or not _holds_anything(root):
        cause = error.strerror if error.errno != errno.ENOENT else "it is empty or gone"
        raise StorageError(
            f"{printable(root)} cannot be read at present: {cause}; mount it again on this machine "
            "and the run goes on by itself, or cancel the run"
        ) from error


def require_writable(root: Path, error: OSError) -> None:
    """Raises StorageError if `error`, of writing a file below `root`, is due to the whole folder."""
    if error.errno in _OF_THE_WHOLE or not os.access(root, os.W_OK | os.X_OK):
        raise StorageError(
            f"{printable(root)} cannot be written to at present: {error.strerror}; free space there or mend "
            "it, the run goes on by itself"
        ) from error


def _holds_anything(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False
