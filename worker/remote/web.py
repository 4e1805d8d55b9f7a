"""Folders of a web server: its listings read, its files fetched, nothing written; an fsspec file system."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import aiohttp
from fsspec.implementations.http import HTTPFileSystem
from yarl import URL

from worker.errors import ImageError, XraycamError
from worker.remote.urls import PLAIN

_LARGEST_PAGE = 100_000_000
_TRIES = 5
_LONGEST_WAIT = 10.0
_BUSY = {
    HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT,
}  # fmt: skip


class WebFiles(HTTPFileSystem):
    """Paths are host and path of a URL, encoded as they are there."""

    def __init__(self, scheme: str, **options: Any) -> None:
        # The environment has proxies, and ~/.netrc the credentials.
        super().__init__(encoded=True, client_kwargs={"trust_env": True}, **options)
        self.scheme = scheme

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> list[dict[str, Any]]:
        """What the page of a folder links directly below it. Raises XraycamError where it is no listing."""
        url = f"{self.scheme}://{path}/"
        async with self._answer("GET", path + "/") as answer:
            if answer.content_type != "text/html":
                raise XraycamError(
                    f"{url}: is no listing of files, but {answer.content_type}; name a folder whose page "
                    "links its files"
                )
            page = await answer.content.read(_LARGEST_PAGE + 1)
            while len(page) <= _LARGEST_PAGE and (more := await answer.content.read(_LARGEST_PAGE)):
                page += more
        if len(page) > _LARGEST_PAGE:
            raise XraycamError(
                f"{url}: its page is longer than {_LARGEST_PAGE:,} bytes; name folders below it"
            )
        links = _Links()
        links.feed(page.decode(answer.get_encoding(), errors="replace"))
        found = {name: None for link in links.found if (name := _below(url, link))}
        return [
            {"name": f"{path}/{name.rstrip('/')}", "type": "directory" if name.endswith("/") else "file"}
            for name in found
        ]

    async def _info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size and mark. Raises XraycamError for a server that would not tell that a file has changed."""
        async with self._answer("HEAD", path) as answer:
            mark, size = _mark(answer), answer.headers.get("Content-Length", "")
        if not mark or not size.isdecimal():
            raise XraycamError(
                f"{self.scheme}://{path}: the server tells no size, or neither ETag nor Last-Modified, so "
                "that a changed file would not be noticed; copy the images to a folder"
            )
        return {"name": path, "type": "file", "size": int(size), "ETag": mark}

    async def _cat_file(self, path: str, start: int = 0, end: int = 0, **_: Any) -> bytes:
        """The first `end` bytes, or all there are."""
        async with self._answer("GET", path) as answer:
            content = bytearray()
            async for part in answer.content.iter_any():
                content += part
                if len(content) >= end:
                    break
        return bytes(content[:end])

    async def _cat_unlisted(self, path: str, start: int = 0, end: int = 0, **_: Any) -> bytes:
        """As `_cat_file`, of a file whose size and mark were not told: without them none is read."""
        try:
            await self._info(path)
        except XraycamError as error:
            raise OSError(errno.EPROTO, str(error)) from error
        return await self._cat_file(path, start, end)

    async def ranged(self, path: str, mark: str, start: int, end: int) -> bytes:
        """Bytes of a file that still has this mark; ImageError where it has another, or no ranges."""
        async with self._answer("GET", path, Range=f"bytes={start}-{end - 1}") as answer:
            url = f"{self.scheme}://{path}"
            if _mark(answer) != mark:
                raise ImageError("unreadable", f"{url} was changed while it was read; retry")
            came = answer.headers.get("Content-Range", "")
            if answer.status != HTTPStatus.PARTIAL_CONTENT or not came.startswith(f"bytes {start}-"):
                raise ImageError(
                    "unsupported", f"{url}: the server gives no parts of a file; unpack the archive there"
                )
            return await answer.read()

    @asynccontextmanager
    async def _answer(self, method: str, path: str, **headers: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that is none of an error; asked again while the server is busy or away."""
        url = _checked(f"{self.scheme}://{path}")
        session = await self.set_session()
        headers |= {"Accept-Encoding": "identity"}
        for attempt in range(_TRIES):
            try:
                answer = await session.request(method, url, headers=headers, allow_redirects=False)
            except aiohttp.ClientError as error:
                failed: OSError = ConnectionError(str(error) or type(error).__name__)
                wait = 0.0
            else:
                if answer.status < HTTPStatus.MULTIPLE_CHOICES:
                    break
                answer.release()
                failed, wait = _error(answer), _asked_to_wait(answer)
                if answer.status not in _BUSY:
                    raise failed
            if attempt == _TRIES - 1:
                raise failed
            await asyncio.sleep(max(wait, 0.25 * 2**attempt))
        try:
            yield answer
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
        finally:
            answer.close()


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _below(folder: str, link: str) -> str | None:
    """The name that a link has directly below a folder, a folder's with a slash at its end; None: elsewhere.

    A name that would lead elsewhere once it is decoded becomes `..`, which no key may be.
    """
    try:
        target = urlsplit(urljoin(folder, _encoded_link(link)))
    except ValueError:
        return None
    ours = urlsplit(folder)
    if (target.scheme, target.netloc) != (ours.scheme, ours.netloc) or target.query:
        return None
    if not target.path.startswith(ours.path):
        return None
    name = target.path[len(ours.path) :]
    if not name or "/" in name[:-1]:
        return None
    return name if _is_one_name(name.rstrip("/")) else ".."


def _encoded_link(link: str) -> str:
    return quote(link.strip(), safe=PLAIN + "?#")


def _is_one_name(part: str) -> bool:
    plain = unquote(part)
    return plain not in ("", ".", "..") and not {"/", "\\", "\0"} & set(plain)


def _checked(url: str) -> URL:
    path = urlsplit(url).path.strip("/")
    if path and not all(_is_one_name(part) for part in path.split("/")):
        raise ValueError("a path with '.', '..' or encoded slashes in it is not asked for")
    return URL(url, encoded=True)


def _mark(answer: aiohttp.ClientResponse) -> str:
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""


def _error(answer: aiohttp.ClientResponse) -> OSError:
    status = answer.status
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
        return FileNotFoundError(str(answer.url))
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return PermissionError(errno.EACCES, f"{status} {answer.reason}")
    if status in _BUSY:
        return OSError(errno.EBUSY, f"{status} {answer.reason}")
    if status < HTTPStatus.BAD_REQUEST:
        return OSError(errno.EPROTO, f"it leads elsewhere ({status}), to {answer.headers.get('Location')}")
    return OSError(errno.EPROTO, f"{status} {answer.reason}")


def _asked_to_wait(answer: aiohttp.ClientResponse) -> float:
    asked = answer.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_WAIT) if asked.isdecimal() else 0.0
