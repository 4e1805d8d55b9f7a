"""Content of S3 objects read and written by obstore, at a tenth of the processor time that s3fs takes.

s3fs lists, and has the last word: what does not succeed here is asked for again by it, with its retries, its
way of slowing down, and its errors. Credentials and endpoint are those that it found.
"""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

# Other characters are written in more than one way in a URL.
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.,=@+ ()!'-]+(/[A-Za-z0-9_.,=@+ ()!'-]+)*")
_ASK_CREDENTIALS_AGAIN = timedelta(minutes=5)
# After an answer that is no answer about an object, during which s3fs does all.
_PAUSE_SECONDS = 10.0
_CUTS = 4


async def fetch(files: Any, place: str, most: int) -> bytes | None:
    """The content of an object of `most` bytes at most; None where s3fs is to be asked.

    `files`: s3fs's file system; `place`: bucket and key.
    """
    store, key = await _store(files, place)
    if store is None:
        return None
    try:
        answer = await store.store.get_async(key)
        if answer.meta["size"] > most:
            return None
        return bytes(await answer.bytes_async())
    except Exception as error:
        store.pause(error)
        return None


async def write(files: Any, place: str, content: bytes) -> bool:
    """Write an object, whole or not at all; False where s3fs is to do it."""
    store, key = await _store(files, place)
    if store is None:
        return False
    try:
        await store.store.put_async(key, content, use_multipart=False)
    except Exception as error:
        store.pause(error)
        return False
    return True


async def ranged(files: Any, place: str, mark: str, start: int, end: int) -> bytes:
    """Bytes of an object that still has the ETag `mark`. Raises what s3fs does."""
    bucket, _, key = place.partition("/")
    attempt = 0
    while True:
        found = await files._call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", IfMatch=mark
        )
        try:
            async with found["Body"] as body:
                return bytes(await body.read())
        except OSError:
            raise
        except Exception:  # the connection was cut
            attempt += 1
            if attempt > _CUTS:
                raise


class _Store:
    """One bucket's; `store` is obstore's."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.paused_until = 0.0

    def pause(self, error: Exception) -> None:
        """Leave a storage that is busy or away to s3fs for a while."""
        if not isinstance(error, FileNotFoundError | PermissionError):
            self.paused_until = time.monotonic() + _PAUSE_SECONDS


async def _store(files: Any, place: str) -> tuple[_Store | None, str]:
    bucket, _, key = place.partition("/")
    if not _PLAIN_KEY.fullmatch(key):
        return None, key
    stores = _stores(os.getpid())
    if bucket not in stores:
        stores[bucket] = await _open(files, bucket)
    found = stores[bucket]
    if found is None or time.monotonic() < found.paused_until:
        return None, key
    return found, key


async def _open(files: Any, bucket: str) -> _Store | None:
    """None where obstore is not installed, or nothing is signed."""
    try:
        from obstore.store import S3Store

        client = await files.set_session()
        credentials = await files.session.get_credentials()
        if files.anon or credentials is None:
            return None

        async def current() -> Any:
            frozen = await credentials.get_frozen_credentials()
            return {
                "access_key_id": frozen.access_key,
                "secret_access_key": frozen.secret_key,
                "token": frozen.token,
                "expires_at": datetime.now(UTC) + _ASK_CREDENTIALS_AGAIN,
            }

        endpoint = client.meta.endpoint_url
        store = S3Store(
            bucket,
            endpoint=endpoint,
            region=client.meta.region_name or "us-east-1",
            virtual_hosted_style_request=False,
            credential_provider=current,
            client_options={
                "allow_http": endpoint.startswith("http://"), "connect_timeout": "3s", "timeout": "60s",
            },
            retry_config={"max_retries": 1, "retry_timeout": timedelta(seconds=3)},
        )  # fmt: skip
    except Exception:
        return None  # s3fs says what is wrong, if anything is
    return _Store(store)


@lru_cache(maxsize=1)
def _stores(process: int) -> dict[str, _Store | None]:  # connections do not outlive a fork
    return {}
