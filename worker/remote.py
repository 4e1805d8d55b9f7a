"""Images in object stores, by fsspec: listed page by page, read whole and ahead of their use.

Credentials come by each library's own means (environment, profiles, roles) and are never part of a URL.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from worker.errors import ImageError, StorageError, XraycamError
from worker.file_names import printable

# Scheme and what to install for it.
_EXTRAS = {"s3": "s3", "gs": "gs", "az": "az", "memory": None}
# With 50 ms a request, so many at once read some 600 images a second.
_AT_ONCE = 32


@dataclass(frozen=True)
class RemoteFile:
    """An object as listed. `path` is relative to the folder; `identity`, of its ETag, fits 63 bits."""

    path: str
    size: int
    identity: int


def is_remote(given: str) -> bool:
    """Whether a folder's name is a URL of an object store that is read."""
    return given.partition("://")[0] in _EXTRAS and "://" in given


class RemoteFolder:
    """A bucket, or what is below a prefix of it. Raises XraycamError for a URL that cannot be meant."""

    def __init__(self, url: str) -> None:
        scheme, _, rest = url.partition("://")
        if "@" in urlsplit(f"//{rest.partition('/')[0]}").netloc:
            raise XraycamError(
                f"{scheme}://***: a URL with credentials is not taken; leave them out and set them as the "
                "storage's library expects (AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, ...)"
            )
        self.place = rest.rstrip("/")
        self.scheme = scheme
        if not self.place or not is_safe_key(self.place):
            raise XraycamError(f"{printable(url)} names no bucket and prefix; write {scheme}://BUCKET/PREFIX")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}"

    @property
    def _files(self) -> Any:
        return _file_system(self.scheme, os.getpid())

    def list(self) -> Iterator[RemoteFile]:
        """What is below, a page in memory at a time (of other stores than S3, a folder).

        Raises XraycamError where it cannot be listed.
        """
        try:
            yield from self._pages() if self.scheme == "s3" else self._folders()
        except XraycamError:
            raise
        except Exception as error:
            raise XraycamError(f"{self} cannot be listed: {_cause(error)}") from error

    def _pages(self) -> Iterator[RemoteFile]:
        bucket, _, prefix = self.place.partition("/")
        prefix = f"{prefix}/" if prefix else ""
        asked = {"Bucket": bucket, "Prefix": prefix}
        while True:
            page = self._files.call_s3("list_objects_v2", **asked)
            for found in page.get("Contents", ()):
                yield _listed(found["Key"][len(prefix) :], found["Size"], found["ETag"])
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _folders(self) -> Iterator[RemoteFile]:
        waiting = [self.place]
        inside = self.place + "/"
        while waiting:
            folder = waiting.pop()
            for found in self._files.ls(folder, detail=True, refresh=True):
                name = found["name"].lstrip("/")
                if not name.startswith(inside):
                    continue
                if found["type"] == "directory":
                    waiting.append(name)
                else:
                    mark = found.get("etag") or found.get("ETag") or found.get("created")
                    yield _listed(name[len(inside) :], found["size"], str(mark))

    def exists(self, path: str) -> bool:
        """Whether there is an object; True where that cannot be said."""
        try:
            self._files.info(f"{self.place}/{path}", refresh=True)
        except FileNotFoundError:
            return not self._answers()
        except Exception:
            return True
        return True

    def read(self, path: str, max_bytes: int) -> bytes:
        """An object, in one request. Raises ImageError, or StorageError where the storage is away."""
        shown = printable(f"{self}/{path}")
        if not is_safe_key(path):
            raise ImageError("outside-root", f"{shown}: has empty, '.' or '..' parts; give it another key")
        try:
            content: bytes = self._files.cat_file(f"{self.place}/{path}", start=0, end=max_bytes + 1)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EINVAL and self._size(path) == 0:
                content = b""  # of which no range can be had
            else:
                self._raise(shown, error)
        if len(content) > max_bytes:
            raise ImageError("too-large", f"{shown} has more than {max_bytes:,} bytes, the limit")
        return content

    def _raise(self, shown: str, error: Exception) -> Any:
        """The error as one of the image, where the storage answers otherwise, or of the whole storage."""
        of_storage = not isinstance(error, OSError) or isinstance(error, (ConnectionError, TimeoutError))
        if of_storage or getattr(error, "errno", None) in (errno.EBUSY, errno.EIO) or not self._answers():
            raise StorageError(
                f"{printable(str(self))} cannot be read: {_cause(error)}; the run continues by itself once "
                "it can, or cancel the run"
            ) from error
        if isinstance(error, FileNotFoundError):
            raise ImageError("missing", f"{shown} is no longer there; restore it and retry") from None
        if isinstance(error, PermissionError):
            raise ImageError("unreadable", f"{shown} may not be read with these credentials") from None
        raise ImageError("unreadable", f"{shown} cannot be read: {_cause(error)}") from error

    def _size(self, path: str) -> int | None:
        try:
            return int(self._files.info(f"{self.place}/{path}", refresh=True)["size"])
        except Exception:
            return None

    def _answers(self) -> bool:
        try:
            return next(self.list(), None) is not None
        except XraycamError:
            return False


class RemoteImage:
    """One image of a remote folder, which may be fetched before it is needed."""

    def __init__(self, folder: RemoteFolder, path: str) -> None:
        self.folder = folder
        self.path = path
        self._ahead: Future[bytes] | None = None

    def __str__(self) -> str:
        return f"{self.folder}/{self.path}"

    def read_ahead(self, max_bytes: int) -> None:
        """Begin to fetch it."""
        self._ahead = _pool(os.getpid()).submit(self.folder.read, self.path, max_bytes)

    def read(self, max_bytes: int) -> bytes:
        """Its content, raising as `RemoteFolder.read` does."""
        ahead, self._ahead = self._ahead, None
        return self.folder.read(self.path, max_bytes) if ahead is None else ahead.result()


def is_safe_key(path: str) -> bool:
    """Whether a key is a relative path below its prefix, and no other key means the same."""
    return "\0" not in path and not {"", ".", ".."} & set(path.split("/"))


def _listed(path: str, size: int, mark: str) -> RemoteFile:
    digest = hashlib.sha256(mark.encode()).digest()
    return RemoteFile(path, size, int.from_bytes(digest[:8], "big") >> 1)


@lru_cache(maxsize=8)
def _file_system(scheme: str, process: int) -> Any:  # noqa: ARG001 # connections do not outlive a fork
    import fsspec

    options: dict[str, Any] = {}
    if scheme == "s3":
        # The adaptive way slows down when the storage asks for it.
        retries = {"mode": "adaptive", "max_attempts": 6}
        options = {"config_kwargs": {"retries": retries, "max_pool_connections": 2 * _AT_ONCE}}
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False, **options)
    except ImportError:
        raise XraycamError(
            f"{scheme}:// needs a library that is not installed; pip install 'xraycam[{_EXTRAS[scheme]}]'"
        ) from None


@lru_cache(maxsize=1)
def _pool(process: int) -> ThreadPoolExecutor:  # noqa: ARG001
    return ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="fetch")


def _cause(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such bucket, or nothing below the prefix; check the URL"
    if isinstance(error, PermissionError):
        return "access is denied; check the credentials and the policy of the bucket"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {printable(lines[0])}" if lines else type(error).__name__
