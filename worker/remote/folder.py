"""A bucket, or what is below a prefix of it: listed by pages, read, written and deleted."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from worker.errors import ImageError, XraycamError
from worker.file_names import printable
from worker.remote.calls import (
    DEADLINE,
    as_image_error,
    begin,
    call,
    cause,
    is_away,
    status_of,
    transfer_seconds,
)
from worker.remote.urls import UNSAFE, WEB, check_url, is_safe_key, local_path

_LONGEST_UPLOAD = 3600.0
_AT_ONCE = 64
_NO_RANGE = 416  # of HTTP


@dataclass(frozen=True)
class Listed:
    """An object as listed. `path` is relative to the folder; `identity`, of its ETag, fits 63 bits."""

    path: str
    size: int
    identity: int


class RemoteFolder:
    """What is below `url`. `deadline`: seconds that a request may take with its retries.

    Raises XraycamError for a URL that cannot be meant.
    """

    def __init__(self, url: str, deadline: float = DEADLINE) -> None:
        self.scheme, self.place = check_url(url)
        self.deadline = deadline
        self.opened: dict[str, Any] = {}  # archives, by path
        self.lock = threading.Lock()

    @property
    def is_web(self) -> bool:
        """Whether it is a web server's, which is only read."""
        return self.scheme in WEB

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteFolder) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def file(self, path: str, size: int | None = None) -> RemotePath:
        """An image by its path in the ledger, `size` bytes long when it was listed."""
        return RemotePath(self, path, size)

    def named(self, url: str) -> RemotePath:
        """A file below, by its URL. Raises ImageError for one elsewhere."""
        if not url.startswith(f"{self}/"):
            raise ImageError("outside-root", f"{printable(url)}: lies outside {printable(self)}")
        return RemotePath(self, url[len(str(self)) + 1 :])

    def inside(self, other: RemoteFolder) -> str | None:
        """Where we lie below `other`, as a relative path; empty for the same, None for elsewhere."""
        if self.scheme != other.scheme or not f"{self.place}/".startswith(f"{other.place}/"):
            return None
        return self.place[len(other.place) + 1 :]

    def list(self) -> Iterator[Listed]:
        """What is below, a page in memory at a time (of other stores than S3, a folder).

        Raises XraycamError where it cannot be listed.
        """
        try:
            yield from self._pages() if self.scheme == "s3" else self._folders()
        except XraycamError:
            raise
        except Exception as error:
            raise XraycamError(f"{printable(self)} cannot be listed: {cause(error)}") from error

    def _pages(self) -> Iterator[Listed]:
        bucket, _, prefix = self.place.partition("/")
        prefix = f"{prefix}/" if prefix else ""
        asked = {"Bucket": bucket, "Prefix": prefix}
        page: dict[str, Any] = self._call("call_s3", "list_objects_v2", **asked)
        while True:
            following: Future[Any] | None = None
            if page.get("IsTruncated"):
                asked["ContinuationToken"] = page["NextContinuationToken"]
                # The next page is on its way while this one is taken in.
                following = begin(self.scheme, "call_s3", "list_objects_v2", seconds=self.deadline, **asked)
            for found in page.get("Contents", ()):
                yield _listed(found["Key"][len(prefix) :], found["Size"], found["ETag"])
            if following is None:
                return
            page = following.result()

    def _folders(self) -> Iterator[Listed]:
        waiting = [self.place]
        files: list[str]
        inside = self.place + "/"
        while waiting:
            folder = waiting.pop()
            files = []
            for found in self._ls(folder):
                name = found["name"].lstrip("/")
                if not name.startswith(inside):
                    continue
                if found["type"] == "directory":
                    waiting.append(name)
                elif self.is_web:
                    files.append(name[len(inside) :])
                else:
                    mark = found.get("etag") or found.get("ETag") or found.get("created")
                    yield _listed(name[len(inside) :], found["size"], str(mark))
            if folder == self.place and self.is_web and not files and not waiting:
                raise XraycamError(
                    f"{printable(self)}: its page links nothing below it; name a folder whose page links its "
                    "files"
                )
            yield from self._looked_at(files)

    def _ls(self, folder: str) -> Iterable[dict[str, Any]]:
        """As fsspec's; without an error for a prefix that nothing has, if there is its bucket."""
        try:
            found: Iterable[dict[str, Any]] = self._call("ls", folder, detail=True, refresh=True)
            return found
        except FileNotFoundError:
            bucket, slash, _ = folder.partition("/")
            if self.is_web or not slash:
                raise
            self._call("ls", bucket, detail=True, refresh=True)
            return []

    def _looked_at(self, paths: Iterable[str]) -> Iterator[Listed]:
        """Files of a web server, whose listing tells no sizes; one that may not be read fails by itself."""
        for path, info, error in self._each("info", paths):
            if error is not None and is_away(error):
                raise error
            if error is not None:
                yield Listed(path, 0, 0)
            else:
                yield _listed(path, info["size"], info["ETag"])

    def missing(self, paths: Iterable[str]) -> Iterator[str]:
        """Those of which there is no object, as far as that can be said."""
        answers: bool | None = None
        for path, _, error in self._each("info", paths):
            if isinstance(error, FileNotFoundError):
                answers = self.answers() if answers is None else answers
                if answers:
                    yield path

    def look_at(self, path: str) -> Listed:
        """Size and identity of an object; raises what the library does, FileNotFoundError where none is."""
        found = self.info(path)
        mark = found.get("ETag") or found.get("etag") or found.get("created")
        return _listed(path, int(found["size"]), str(mark))

    def info(self, path: str) -> dict[str, Any]:
        """What fsspec says of an object; raises as `look_at`."""
        found: dict[str, Any] = self._call("info", f"{self.place}/{path}", refresh=True)
        if found["type"] == "directory":
            raise FileNotFoundError(path)
        return found

    def ranged(self, path: str, mark: str, start: int, end: int) -> bytes:
        """Bytes of an object of S3, or a file of a web server, that still has this mark; raises what the
        library does."""
        key = f"{self.place}/{path}"
        found: bytes = call(self.scheme, "ranged", key, mark, start, end, seconds=self.deadline)
        return found

    def answers(self) -> bool:
        """Whether it can be listed and holds anything."""
        try:
            return next(self.list(), None) is not None
        except XraycamError:
            return False

    def claim(self, path: str, content: bytes) -> None:
        """Write an object that must not be there. Raises FileExistsError, or XraycamError."""
        try:
            self._call("pipe_file", f"{self.place}/{path}", content, mode="create")
        except (FileExistsError, XraycamError):
            raise
        except Exception as error:
            raise XraycamError(f"{printable(self)} cannot be written to: {cause(error)}") from error

    def delete(self, paths: Iterable[str]) -> int:
        """Delete objects, which need not be there; how many. Raises XraycamError where one cannot be."""
        count = 0
        for path, _, error in self._each("rm_file", paths):
            count += 1
            if error is not None and not isinstance(error, FileNotFoundError):
                raise XraycamError(
                    f"{printable(self.file(path))} cannot be deleted: {cause(error)}"
                ) from error
        return count

    def _each(self, method: str, paths: Iterable[str]) -> Iterator[tuple[str, Any, Exception | None]]:
        """Call a method of the file system for each, several at once; what each call gave, or raised."""
        waiting: deque[tuple[str, Future[Any]]] = deque()
        remaining = iter(paths)
        while True:
            for path in islice(remaining, _AT_ONCE - len(waiting)):
                waiting.append(
                    (path, begin(self.scheme, method, f"{self.place}/{path}", seconds=self.deadline))
                )
            if not waiting:
                return
            path, begun = waiting.popleft()
            try:
                found, error = begun.result(), None
            except Exception as raised:
                found, error = None, raised
            yield path, found, error

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        return call(self.scheme, method, *arguments, seconds=self.deadline, **options)


@dataclass(eq=False)
class RemotePath:
    """A file in a remote folder. `size`: as it was listed, None where it was not."""

    folder: RemoteFolder
    path: str
    size: int | None = None
    _begun: Future[Any] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.folder}/{self.path}"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def key(self) -> str:
        """Bucket and key, as fsspec takes them."""
        return f"{self.folder.place}/{self.path}"

    def with_suffix(self, suffix: str) -> RemotePath:
        before, slash, name = self.path.rpartition("/")
        return RemotePath(self.folder, before + slash + Path(name).with_suffix(suffix).name)

    @property
    def is_begun(self) -> bool:
        """Whether a fetch was begun whose content nobody has read."""
        return self._begun is not None

    def begin_read(self, max_bytes: int) -> None:
        """Begin to fetch it, for the next `read`."""
        if is_safe_key(self.path):
            self._begun = self._fetch(max_bytes if self.size is None else min(self.size, max_bytes))

    def give_up(self) -> None:
        """Drop what was begun."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.cancel()

    def read(self, max_bytes: int) -> bytes:
        """The content, in one request, which may have begun.

        Raises ImageError, or StorageError where the storage is away.
        """
        shown = printable(self)
        if not is_safe_key(self.path):
            raise ImageError("outside-root", f"{shown}: {UNSAFE}; give it another key")
        if self.size is not None and self.size > max_bytes:
            raise ImageError("too-large", f"{shown} has {self.size:,} bytes; the limit is {max_bytes:,}")
        begun, self._begun = self._begun, None
        try:
            content: bytes = (begun or self._fetch(max_bytes)).result()
            if begun is not None and self.size is not None and len(content) > self.size:
                content = self._fetch(max_bytes).result()  # it has grown since it was listed
        except Exception as error:
            of_range = isinstance(error, OSError) and error.errno == errno.EINVAL
            if not ((of_range or status_of(error) == _NO_RANGE) and self._is_empty()):
                as_image_error(
                    error, shown, printable(self.folder), doing="read", answers=self.folder.answers
                )
            content = b""  # of which no range can be had
        if len(content) > max_bytes:
            raise ImageError("too-large", f"{shown} has more than {max_bytes:,} bytes, the limit")
        return content

    def _fetch(self, most: int) -> Future[Any]:
        """One byte more than `most` is asked for, which tells whether there are more."""
        seconds = transfer_seconds(self.size or 0, self.folder.deadline)
        # Without size and mark a change would not be noticed.
        method = "cat_unlisted" if self.folder.is_web and not self.size else "cat_file"
        return begin(self.folder.scheme, method, self.key, start=0, end=most + 1, seconds=seconds)

    def begin_write(self, content: bytes) -> Future[Any]:
        """Begin to write; `end_write` waits. An object is there whole or not at all.

        Raises ImageError `write-failed` for a key that would mean another.
        """
        if not is_safe_key(self.path):
            raise ImageError(
                "write-failed",
                f"{printable(self)} cannot be a key; rename the image, or name a folder as --output",
            )
        seconds = transfer_seconds(len(content), self.folder.deadline)
        return begin(self.folder.scheme, "pipe_file", self.key, content, seconds=seconds)

    def end_write(self, begun: Future[Any]) -> None:
        """Raises ImageError `write-failed`, or StorageError where nothing can be written now."""
        try:
            begun.result()
        except Exception as error:
            as_image_error(
                error, printable(self), printable(self.folder), doing="write", answers=lambda: True
            )

    def write(self, content: bytes) -> None:
        """Write, whole or not at all; raises as `end_write`."""
        self.end_write(self.begin_write(content))

    def upload(self, file: Path) -> None:
        """Write what `file` holds, whole or not at all; raises as `end_write`."""
        seconds = _LONGEST_UPLOAD
        self.end_write(begin(self.folder.scheme, "put_file", str(file), self.key, seconds=seconds))

    def _is_empty(self) -> bool:
        try:
            return self.folder.look_at(self.path).size == 0
        except Exception:
            return False


def file_of(place: Path | RemoteFolder, name: str) -> Path | RemotePath:
    """A file that the ledger names, which lies in a run's `place`. Raises ImageError for a URL elsewhere."""
    return place.named(name) if isinstance(place, RemoteFolder) else Path(name)


def place_of(given: str) -> Path | RemoteFolder:
    """The folder that a name, or a URL, means. Raises XraycamError for a URL that is not taken."""
    return local_path(given) or RemoteFolder(given)


def _listed(path: str, size: int, mark: str) -> Listed:
    digest = hashlib.sha256(mark.encode()).digest()
    return Listed(path, size, int.from_bytes(digest[:8], "big") >> 1)
