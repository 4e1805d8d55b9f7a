"""A DICOMweb server (PS3.18): requests with credentials, a bounded rate, and patience while it is away."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_exponential_jitter

from producer.pacs.outgoing import TargetAway
from worker.errors import XraycamError
from worker.settings import Settings

PREFIX = "dicomweb+"
_AWAY = (429, 502, 503, 504)
# An error inside the server may pass, or be due to what it was sent.
_TRIES_OF_500 = 3
_TIMEOUT = (10.0, 120.0)  # seconds to connect, and without a byte
_LONGEST_WAIT = 30.0
_UNENCODED = "*,:?/@!$'()"
_LARGEST_ANSWER = 64_000_000
_BACKOFF = wait_exponential_jitter(initial=0.5, max=_LONGEST_WAIT, jitter=0.5)


class _Away(Exception):
    """Raised inside while another try may succeed."""

    def __init__(self, cause: str, after: float | None = None) -> None:
        super().__init__(cause)
        self.after = after


def is_url(text: str) -> bool:
    """Whether `text` names a DICOMweb server."""
    return text.startswith((f"{PREFIX}http://", f"{PREFIX}https://"))


class DicomWeb:
    """A server at `dicomweb+https://HOST/PATH[?QUERY]`. `name` is its URL without the query; `warnings`: what
    it said beside its answers to searches, such as that it left matches out, each once."""

    def __init__(self, url: str, settings: Settings) -> None:
        self._url, self.query = _checked(url)
        self.name = f"{PREFIX}{self._url}"
        self.warnings: dict[str, None] = {}
        self._patience = settings.pacs_timeout
        self._pause = 1 / settings.dicomweb_rate
        self._next = 0.0
        self._tries = 0
        self._session = requests.Session()
        self._session.headers["User-Agent"] = "xraycam"
        _authorize(self._session, self._url, settings)

    def close(self) -> None:
        self._session.close()

    def request(
        self, method: str, path: str, read: Callable[[requests.Response], Any], **how: Any
    ) -> tuple[int, Any]:
        """Status and what `read` makes of the answer, which it may stream; repeated while the server is away.

        Raises TargetAway when it is away for longer than XRAYCAM_PACS_TIMEOUT, XraycamError where it
        refuses whoever asks (401, 403) or is no such server (404).
        """
        again = Retrying(
            retry=retry_if_exception_type(_Away),
            stop=stop_after_delay(self._patience),
            wait=_wait,
            reraise=True,
        )
        self._tries = 0
        try:
            status, found = again(self._once, method, path, read, how)
        except _Away as error:
            raise TargetAway(
                f"{self.name} does not answer: {error}; start it or fix the network, then give the same "
                "command again, which does the rest"
            ) from None
        if status in (401, 403):
            raise XraycamError(
                f"{self.name} refuses us (HTTP {status}): set XRAYCAM_DICOMWEB_TOKEN, or "
                "XRAYCAM_DICOMWEB_USER and XRAYCAM_DICOMWEB_PASSWORD, to what it asks for"
            )
        if method == "POST" and 300 <= status < 400:
            # Followed, it would become a GET that stores nothing.
            raise XraycamError(f"{self.name} sends us elsewhere (HTTP {status}): name that place in its URL")
        if status == 404 and method == "POST":
            raise XraycamError(f"{self.name} is no DICOMweb server (HTTP 404): check the path in its URL")
        return status, found

    def json(self, path: str, parameters: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
        """The answer to a search (QIDO-RS), as DICOM JSON. Raises as `request` does, or for others."""
        # Orthanc does not decode what need not be encoded in a query (RFC 3986): %2A finds nothing.
        query = urlencode(parameters, safe=_UNENCODED, quote_via=quote)
        status, found = self.request(
            "GET", path, self._searched, params=query, headers={"Accept": "application/dicom+json"}
        )
        if status == 204:
            return []
        if status != 200 or not isinstance(found, list):
            raise XraycamError(f"{self.name}/{path} answers a search with HTTP {status}; check the query")
        return found

    def _searched(self, answer: requests.Response) -> Any:
        said = "".join(letter for letter in answer.headers.get("Warning", "") if letter.isprintable())[:200]
        self.warnings |= {said: None} if said else {}
        return _json(answer)

    def _once(
        self, method: str, path: str, read: Callable[[requests.Response], Any], how: dict[str, Any]
    ) -> tuple[int, Any]:
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + self._pause
        self._tries += 1
        try:
            with self._session.request(
                method,
                f"{self._url}/{path}",
                timeout=_TIMEOUT,
                stream=True,
                allow_redirects=method == "GET",
                **how,
            ) as answer:
                status = answer.status_code
                if status in _AWAY or (status == 500 and self._tries < _TRIES_OF_500):
                    raise _Away(f"HTTP {status}", _seconds(answer.headers.get("Retry-After")))
                return status, read(answer)
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise _Away(_cause(error)) from None
        except requests.RequestException as error:
            raise XraycamError(f"{self.name} cannot be asked: {_cause(error)}") from None


def body(answer: requests.Response, largest: int = _LARGEST_ANSWER) -> bytes:
    """The answer's content. Raises XraycamError for more than `largest` bytes."""
    parts, size = [], 0
    for part in answer.iter_content(1 << 18):
        size += len(part)
        if size > largest:
            raise XraycamError(f"an answer of more than {largest:,} bytes is refused")
        parts.append(part)
    return b"".join(parts)


def _json(answer: requests.Response) -> Any:
    import json

    content = body(answer)
    with suppress(ValueError):
        return json.loads(content) if content else []
    return None


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    backoff = float(_BACKOFF(state))
    if isinstance(error, _Away) and error.after is not None:
        return min(max(error.after, backoff), 2 * _LONGEST_WAIT)
    return backoff


def _seconds(text: str | None) -> float | None:
    """Of a Retry-After in seconds; one that is a date is left out."""
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None


def _cause(error: Exception) -> str:
    """What went wrong, without the URL, which may name a patient."""
    text = str(error)
    for words in ("refused", "timed out", "resolve", "reset", "CERTIFICATE_VERIFY_FAILED", "aborted"):
        if words in text:
            return {"resolve": "its name is not known", "CERTIFICATE_VERIFY_FAILED": "its certificate is not "
                    "trusted; set REQUESTS_CA_BUNDLE"}.get(words, f"the connection was {words}")  # fmt: skip
    return type(error).__name__


def _checked(url: str) -> tuple[str, list[tuple[str, str]]]:
    try:
        parts = urlsplit(url.removeprefix(PREFIX))
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if not host:
        raise XraycamError(
            "the DICOMweb URL cannot be understood; write dicomweb+https://HOST/dicom-web?QUERY"
        )
    if "@" in parts.netloc:
        raise XraycamError(
            "a DICOMweb URL holds no password; set XRAYCAM_DICOMWEB_USER and XRAYCAM_DICOMWEB_PASSWORD"
        )
    plain = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
    return plain, parse_qsl(parts.query, keep_blank_values=True)


def _authorize(session: requests.Session, url: str, settings: Settings) -> None:
    """Credentials from settings; without any, requests looks into ~/.netrc."""
    token, user, password = settings.dicomweb_token, settings.dicomweb_user, settings.dicomweb_password
    if token is None and user is None:
        return
    if url.startswith("http://") and not _is_here(urlsplit(url).hostname or ""):
        raise XraycamError("credentials are not sent unencrypted to another machine; use dicomweb+https://")
    if token is not None:
        session.trust_env = False  # or a netrc would come before it
        session.headers["Authorization"] = f"Bearer {token.get_secret_value()}"
    elif user is not None:
        session.auth = (user, password.get_secret_value() if password is not None else "")


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
