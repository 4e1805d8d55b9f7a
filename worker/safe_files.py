"""Reading and writing below a folder and nowhere else; a bad file is told from an unavailable folder."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from worker.errors import ImageError, StorageError
from worker.file_names import printable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# A pipe is opened at once and told by its kind, rather than waited for.
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What an opened link gives: a link where a file was to be, or a folder.
_LINK = (errno.ELOOP, errno.EMLINK, errno.ENOTDIR)


def open_beneath(file: Path, root: Path | None = None) -> int:
    """A descriptor of `file`; with `root`, which holds no links, of a file below it reached without links.

    Raises ImageError `outside-root` for a way out of `root`, OSError as `os.open` does.
    """
    if root is None:
        return os.open(file, _READ)
    with _parent(file, root, make=False) as folder:
        try:
            return os.open(file.name, _READ | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            raise _outside(file, root, "read") if error.errno in _LINK else error from None


def atomic_write_beneath(root: Path, file: Path, content: bytes) -> None:
    """Write `file` below `root`, whole or not at all, through no link; folders are made as needed.

    Raises ImageError `outside-root` for a way out of `root`, OSError where it cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _parent(file, root, make=True) as folder:
        unfinished = f"{_unfinished(file.name)}{secrets.token_hex(8)}"
        handle = os.open(unfinished, _CREATE, 0o666, dir_fd=folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.replace(unfinished, file.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(unfinished, dir_fd=folder)
            raise


def remove_temp_files(root: Path, files: Iterable[Path]) -> None:
    """Remove what writers of these files below `root` left behind when they were killed."""
    by_folder: dict[Path, list[Path]] = {}
    for file in files:
        by_folder.setdefault(file.parent, []).append(file)
    for listed in by_folder.values():
        beginnings = tuple(_unfinished(file.name) for file in listed)
        with suppress(OSError, ImageError), _parent(listed[0], root, make=False) as folder:
            with os.scandir(folder) as entries:
                found = [entry.name for entry in entries if entry.name.startswith(beginnings)]
            for name in found:
                os.unlink(name, dir_fd=folder)


def _unfinished(name: str) -> str:
    """How the temporary names begin under which a file of this name is written."""
    return f".unfinished-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}-"


@contextmanager
def _parent(file: Path, root: Path, *, make: bool) -> Iterator[int]:
    """The opened folder that `file` is in."""
    doing = "write" if make else "read"
    try:
        parts = file.relative_to(root).parts
    except ValueError:
        raise _outside(file, root, doing) from None
    if not parts or ".." in parts:
        raise _outside(file, root, doing)
    folder = os.open(root, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = _enter(folder, part, file, root, make=make)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _enter(folder: int, part: str, file: Path, root: Path, *, make: bool) -> int:
    flags = _FOLDER | os.O_NOFOLLOW
    try:
        try:
            return os.open(part, flags, dir_fd=folder)
        except FileNotFoundError:
            if not make:
                raise
        with suppress(FileExistsError):  # another thread or worker may be faster
            os.mkdir(part, dir_fd=folder)
        return os.open(part, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in _LINK and _is_link(folder, part):
            raise _outside(file, root, "write" if make else "read") from None
        raise


def _is_link(folder: int, part: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _outside(file: Path, root: Path, doing: str) -> ImageError:
    advice = "name another --output" if doing == "write" else "enqueue the folder it is in"
    return ImageError(
        "outside-root",
        f"{printable(file)}: leads out of {printable(root)} by a link or '..', where this run may not "
        f"{doing}; remove the link, or {advice}",
    )


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


def raise_if_source_unavailable(root: Path, error: OSError) -> None:
    """Raises StorageError if `error`, of reading a file below `root`, is due to the whole folder."""
    if error.errno in _OF_THE_WHOLE - _OF_ONE_FILE_READ or not _holds_anything(root):
        cause = error.strerror if error.errno != errno.ENOENT else "it is empty or gone"
        raise StorageError(
            f"{printable(root)} cannot be read: {cause}; mount it again on this machine "
            "and the run continues by itself, or cancel the run"
        ) from error


def raise_if_target_unavailable(root: Path, error: OSError) -> None:
    """Raises StorageError if `error`, of writing a file below `root`, is due to the whole folder."""
    if error.errno in _OF_THE_WHOLE or not os.access(root, os.W_OK | os.X_OK):
        raise StorageError(
            f"{printable(root)} cannot be written to: {error.strerror}; free space there or repair "
            "it, and the run continues by itself"
        ) from error


def _holds_anything(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def apply_umask(path: Path) -> None:
    """Give a file or folder the permissions that the umask leaves; some libraries always make them 0600."""
    # There is no way to look at it without setting it; for that moment, to the strictest.
    umask = os.umask(0o077)
    os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
