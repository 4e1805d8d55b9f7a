"""Archives in object storage: their members listed and read by ranges, nothing else fetched."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import Any

from worker.errors import ImageError
from worker.file_names import has_image_extension, printable
from worker.images.archive import SEPARATOR, has_archive_name, list_members, read_member
from worker.images.limits import Limits
from worker.remote.calls import as_image_error, call, error_code
from worker.remote.folder import RemoteFolder, RemotePath

# Fetched beyond what is asked for: members that follow each other come together.
_BLOCK = 1_000_000


class RemoteArchive:
    """The bytes of an archive, as it was when it was opened. Raises as `RemotePath.read` does."""

    def __init__(self, folder: RemoteFolder, path: str) -> None:
        from fsspec.caching import ReadAheadCache

        self.file = folder.file(path)
        found = folder.info(path)
        self.size = int(found["size"])
        self._mark = found.get("ETag")
        self.key = (str(self.file), str(self._mark), self.size)
        # Objects called as a member would be; they come first, as files do.
        # A web server has no such folders.
        self.shadows: set[str] = set()
        if not folder.is_web:
            self.shadows |= {found.path for found in RemoteFolder(f"{self.file}!", folder.deadline).list()}
        self._cache = ReadAheadCache(_BLOCK, self._fetch, self.size)
        self._lock = threading.Lock()

    def pread(self, size: int, offset: int) -> bytes:
        """As `os.pread`."""
        with self._lock:
            content: bytes = self._cache._fetch(offset, min(offset + size, self.size))
        return content

    def stream(self) -> io.RawIOBase:
        """All of it, as a file that can be sought."""
        return _Stream(self)

    def _fetch(self, start: int, end: int) -> bytes:
        folder, shown = self.file.folder, printable(self.file)
        try:
            if folder.scheme == "s3" or folder.is_web:
                return bytes(folder.ranged(self.file.path, str(self._mark), start, end))
            return bytes(call(folder.scheme, "cat_file", self.file.key, start=start, end=end))
        except Exception as error:
            if error_code(error) == "PreconditionFailed":
                raise ImageError("unreadable", f"{shown} was changed while it was read; retry") from error
            as_image_error(error, shown, printable(folder), doing="read", answers=folder.answers)
            raise


class _Stream(io.RawIOBase):
    def __init__(self, archive: RemoteArchive) -> None:
        self._archive, self._at = archive, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._at, self._archive.size)[whence]
        if base + offset < 0:
            raise ValueError("before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        content = self._archive.pread(len(buffer), self._at)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


@dataclass(eq=False)
class RemoteMember(RemotePath):
    """A member of an archive; None: the archive itself, which is no image and says why."""

    archive: RemoteArchive | None = None
    member: str | None = None

    def begin_read(self, max_bytes: int) -> None:
        """Members are fetched by who reads them, with those that follow."""

    def read(self, max_bytes: int) -> bytes:
        shown = printable(self)
        assert self.archive is not None
        if self.member is not None:
            return read_member(self.archive, self.member, shown, Limits(max_bytes=max_bytes))
        for _ in list_members(self.archive, shown):  # raises where it is damaged
            break
        raise ImageError("unsupported", f"{shown} is an archive without an image that is read")


def remote_source(folder: RemoteFolder, path: str, size: int | None = None) -> RemotePath:
    """An image by its path in the ledger: an object, or a member of one, `archive.zip!/a/b.dcm`.

    Raises as `RemotePath.read` does.
    """
    at = path.find(SEPARATOR)
    while at > 0:
        archive, member = path[:at], path[at + len(SEPARATOR) :]
        if is_remote_archive(archive):
            opened = open_remote(folder, archive)
            if opened is not None and member not in opened.shadows:
                return RemoteMember(folder, path, size, archive=opened, member=member)
        at = path.find(SEPARATOR, at + 1)
    opened = open_remote(folder, path) if is_remote_archive(path) else None
    return RemoteMember(folder, path, size, archive=opened) if opened else folder.file(path, size)


def archive_of(path: str) -> str | None:
    """The archive that an image lies in if it is a member of one, by its name."""
    at = path.find(SEPARATOR)
    while at > 0 and not is_remote_archive(path[:at]):
        at = path.find(SEPARATOR, at + 1)
    return path[:at] if at > 0 else None


def is_remote_archive(path: str) -> bool:
    """Whether an object is taken for an archive, by its name."""
    return has_archive_name(path) and not has_image_extension(path)


def open_remote(folder: RemoteFolder, path: str) -> RemoteArchive | None:
    """The archive at a key, opened once for each folder object; None where there is none.

    Raises as `RemotePath.read` does.
    """
    with folder.lock:
        if path not in folder.opened:
            try:
                folder.opened[path] = RemoteArchive(folder, path)
            except FileNotFoundError:
                folder.opened[path] = None
            except Exception as error:
                shown = printable(folder.file(path))
                as_image_error(error, shown, printable(folder), doing="read", answers=folder.answers)
        found: RemoteArchive | None = folder.opened[path]
    return found
