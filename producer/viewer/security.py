"""Who may ask the server for what: host names, readers' tokens or a proxy's header, answers' headers."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CSRF_HEADER = "x-xraycam-token"
LONGEST_READER = 100
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(frozen=True)
class Access:
    """`hosts`: the values of the Host header that are answered. `tokens`: each reader's, by name; `header`:
    the header with the reader's name that a proxy sets, which then counts instead; `proxies`: the addresses
    it comes from. `cookie`: the cookie's name. `secret`: what tokens of changes are made with."""

    hosts: frozenset[str]
    cookie: str
    secret: bytes
    tokens: dict[str, str] = field(default_factory=dict)
    header: str | None = None
    proxies: frozenset[str] = frozenset({"127.0.0.1", "::1"})

    def reader_of(self, token: str) -> str | None:
        found = None
        for reader, own in self.tokens.items():
            if hmac.compare_digest(own.encode(), token.encode("utf-8", "replace")):
                found = reader
        return found

    def csrf_token(self, reader: str) -> str:
        """What a page of `reader` sends along with each change."""
        return hmac.new(self.secret, reader.encode(), hashlib.sha256).hexdigest()


class Guard:
    """Passes on requests of known readers to known host names alone, with `scope["state"]["reader"]` set."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        response = self._refusal(scope)
        await (response or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        headers, access = Headers(scope=scope), self._access
        if headers.get("host", "").lower() not in access.hosts:
            return PlainTextResponse("unknown host name; --allow-host NAME lets it in", 421)
        if access.header is not None:
            reader = headers.get(access.header, "").strip()
            if (scope.get("client") or ("",))[0] not in access.proxies or len(
                headers.getlist(access.header)
            ) != 1:
                return PlainTextResponse("requests are answered through the proxy with the login alone", 403)
        else:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if given and access.reader_of(given) is not None and scope["method"] == "GET":
                response = RedirectResponse(scope["path"], 303)
                response.set_cookie(access.cookie, given, httponly=True, samesite="strict", path="/")
                return response
            morsel = SimpleCookie(headers.get("cookie", "")).get(access.cookie)
            reader = access.reader_of(morsel.value) or "" if morsel is not None else ""
        if not reader or len(reader) > LONGEST_READER or not reader.isprintable():
            return PlainTextResponse("open the address that 'xraycam serve' printed, with its token", 401)
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            same = origin is None or urlsplit(origin).netloc.lower() == headers["host"].lower()
            same = same and headers.get("sec-fetch-site", "same-origin") == "same-origin"
            sent = headers.get(CSRF_HEADER, "")
            if not same or not hmac.compare_digest(sent.encode(), access.csrf_token(reader).encode()):
                return PlainTextResponse("a change must come from a page of this server", 403)
        scope.setdefault("state", {})["reader"] = reader
        return None
