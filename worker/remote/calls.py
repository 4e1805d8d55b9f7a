"""Calls of an object store: at once or begun, bounded in time, with errors told from each other."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from worker.errors import ImageError, StorageError, XraycamError
from worker.remote import s3_transfers
from worker.remote.urls import EXTRAS, WEB, without_secrets

# Of one request with its retries; below XRAYCAM_IMAGE_TIMEOUT, so that a storage that is away is waited for
# before anything is taken for hung.
DEADLINE = 15.0
# Bytes a second that a transfer has at least, for which it gets more time.
_SLOWEST = 4_000_000
_CONNECTIONS = 256
_THREADS = 32

# What is wrong with our credentials, not with an object: everything would fail.
_OF_CREDENTIALS = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "RequestExpired",
    "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired", "InvalidClientTokenId",
}  # fmt: skip
_OF_BUCKET = {"NoSuchBucket", "AllAccessDisabled", "AccountProblem", "PermanentRedirect"}
# An object in a tier that is not read at once; S3's name, and Azure's.
_ARCHIVED = {"InvalidObjectState", "BlobArchived"}
# Of HTTP, where no library has a better word: about the request for one object.
_OF_OBJECT = {400, 404, 409, 410, 412, 416}
_BUSY = {errno.EBUSY, errno.EIO, getattr(errno, "EREMOTEIO", errno.EIO)}
_AWAY = (ConnectionError, TimeoutError)


def begin(
    scheme: str, method: str, *arguments: Any, seconds: float = DEADLINE, **options: Any
) -> Future[Any]:
    """Begin a call of the file system, by its name there; the future raises TimeoutError after `seconds`.

    Raises XraycamError where the library of the scheme is not installed.
    """
    files = file_system(scheme, os.getpid())
    if not files.async_impl:
        return _threads(os.getpid()).submit(getattr(files, method), *arguments, **options)

    import asyncio  # which light commands do without

    async def bounded() -> Any:
        async with asyncio.timeout(seconds):
            if scheme == "s3" and method == "cat_file" and options.get("start") == 0:
                content = await s3_transfers.fetch(files, arguments[0], options["end"])
                if content is not None:
                    return content
            elif scheme == "s3" and method == "pipe_file" and not options:
                written = await s3_transfers.write(files, *arguments)
                if written:
                    return None
            if scheme == "s3" and method == "ranged":
                return await s3_transfers.ranged(files, *arguments)
            name = method if method == "ranged" else f"_{method}"
            return await getattr(files, name)(*arguments, **options)

    return asyncio.run_coroutine_threadsafe(bounded(), files.loop)


def call(scheme: str, method: str, *arguments: Any, seconds: float = DEADLINE, **options: Any) -> Any:
    """As `begin`, waited for."""
    return begin(scheme, method, *arguments, seconds=seconds, **options).result()


def transfer_seconds(size: int, deadline: float) -> float:
    """How long a transfer of so many bytes may take."""
    return min(deadline + size / _SLOWEST, 3 * deadline)


def is_away(error: BaseException) -> bool:
    """Whether an error is of the whole storage, or of our credentials, and not of one object."""
    code = error_code(error)
    if code in _OF_CREDENTIALS or code in _OF_BUCKET:
        return True
    if isinstance(error, OSError):
        return isinstance(error, _AWAY) or error.errno in _BUSY
    return not isinstance(error, (ValueError, TypeError)) and status_of(error) not in _OF_OBJECT


def as_image_error(
    error: Exception, shown: str, place: str, *, doing: str, answers: Callable[[], bool]
) -> Any:
    """Raises what an error of one object means: ImageError of the object, StorageError of the whole `place`.

    `answers`: whether there is anything at the place, asked where an object is missing.
    """
    if isinstance(error, (ImageError, StorageError)):
        raise error
    missing = isinstance(error, FileNotFoundError)
    if is_away(error) or (missing and doing == "read" and not answers()):
        what = "read" if doing == "read" else "written to"
        raise StorageError(
            f"{place} cannot be {what}: {cause(error)}; the run continues by itself once it can, or cancel "
            "the run"
        ) from error
    if doing == "write":
        raise ImageError(
            "write-failed", f"{shown} cannot be written: {cause(error)}; give write access and retry"
        ) from error
    if error_code(error) in _ARCHIVED:
        raise ImageError(
            "unreadable", f"{shown} is in an archive tier of the storage; restore it there and retry"
        ) from None
    if missing:
        raise ImageError("missing", f"{shown} is no longer there; restore it and retry") from None
    if isinstance(error, PermissionError):
        raise ImageError(
            "unreadable", f"{shown} may not be read with these credentials (403); give access and retry"
        ) from None
    raise ImageError("unreadable", f"{shown} cannot be read: {cause(error)}") from error


def error_code(error: BaseException) -> str:
    """What S3, or Azure, calls it; empty for what has no such code."""
    for one in (error, error.__cause__):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        named = getattr(one, "error_code", None)
        if named is not None:
            return str(getattr(named, "value", named))
    return ""


def status_of(error: BaseException) -> int | None:
    """The status of HTTP that an error of azure or gcsfs carries."""
    found = getattr(error, "status_code", None) or getattr(error, "code", None)
    return int(str(found)) if str(found).isdecimal() else None


def cause(error: BaseException) -> str:
    """An error of a storage in words of one line, without a URL's secrets."""
    code = error_code(error)
    if code == "NoSuchBucket":
        return "there is no such bucket; check the URL and the endpoint"
    if isinstance(error, FileNotFoundError):
        return "there is nothing at that place (404); check the URL"
    if code in _OF_CREDENTIALS:
        return f"the credentials are not accepted ({code}); renew or correct them"
    if isinstance(error, PermissionError):
        return "access is denied (403); check the credentials and what they may do"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, OSError) and error.errno in _BUSY:
        return f"it is busy or has an error ({code or errno.errorcode.get(error.errno or 0, 'unknown')})"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {without_secrets(lines[0])}"[:300] if lines else type(error).__name__


@lru_cache(maxsize=8)
def file_system(scheme: str, process: int) -> Any:  # connections do not outlive a fork
    """fsspec's file system of a scheme. Raises XraycamError where its library is not installed."""
    import fsspec

    # Their debug logs quote credentials, and their warnings are for programmers.
    for name in (
        "botocore",
        "aiobotocore",
        "boto3",
        "s3fs",
        "fsspec",
        "gcsfs",
        "adlfs",
        "azure",
        "google",
        "obstore",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    options: dict[str, Any] = {}
    if scheme == "s3":
        retries = {"mode": "standard", "max_attempts": 6}
        options = {"config_kwargs": {"retries": retries, "max_pool_connections": _CONNECTIONS}}
    try:
        if scheme in WEB:
            from worker.remote.web import WebFiles

            return WebFiles(scheme, use_listings_cache=False)
        return fsspec.filesystem(scheme, use_listings_cache=False, **options)
    except ImportError:
        raise XraycamError(
            f"{scheme}:// needs a library that is not installed; pip install 'xraycam[{EXTRAS[scheme]}]'"
        ) from None
    except Exception as error:
        raise XraycamError(f"{scheme}:// cannot be used: {cause(error)}") from error


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="storage")
