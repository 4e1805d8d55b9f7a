"""Talking to the broker: whether it answers, how long its queue is, without its password in any message."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from worker.errors import XraycamError

_SECRET_VALUE = re.compile(r"([^=]*(?:password|secret|token|key)[^=]*)=.*", re.IGNORECASE)


class BrokerUnreachable(XraycamError):
    """Raised when the broker does not answer."""


def redact_url(url: str) -> str:
    """The URL, or path, as it may be shown: without its password; what cannot be taken apart is not shown."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return f"{url.partition('://')[0]}://***"
    query = "&".join(_SECRET_VALUE.sub(r"\1=***", part) for part in parts.query.split("&"))
    if "@" in parts.query + parts.fragment or ("@" in parts.path and parts.port is not None):
        return f"{parts.scheme}://***"
    netloc = parts.netloc
    if parts.password is not None:
        host = netloc.rpartition("@")[2]
        netloc = f"{parts.username or ''}:***@{host}"
    return f"{parts.scheme}://{netloc}{parts.path}" + (f"?{query}" if query else "")


def client(url: str, timeout: float = 5.0) -> Any:
    """A redis-py client for a Celery broker URL."""
    import redis

    plain = url
    if url.startswith("redis+socket://"):
        # What Kombu calls virtual_host is db to redis-py; the settings write it in Kombu's way.
        parts = urlsplit(url)
        query = [("db" if name == "virtual_host" else name, value) for name, value in parse_qsl(parts.query)]
        plain = f"unix://{parts.netloc}{parts.path}?{urlencode(query)}"
    return redis.Redis.from_url(plain, socket_timeout=timeout, socket_connect_timeout=timeout)


def require_broker(url: str) -> None:
    """Raises BrokerUnreachable unless the broker answers."""
    import redis

    try:
        client(url).ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise broker_error(url, error) from error


def broker_error(url: str, error: BaseException) -> BrokerUnreachable:
    cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    password = urlsplit(url).password
    if password:
        cause = cause.replace(password, "***").replace(unquote(password), "***")
    for words, meaning in _REFUSALS:
        if words in cause.lower():
            return BrokerUnreachable(f"the broker {redact_url(url)} {meaning}")
    if url.startswith("rediss:") and ("timeout" in cause.lower() or "ssl" in cause.lower()):
        return BrokerUnreachable(
            f"the broker {redact_url(url)} does not answer over TLS ({cause}); if it does not speak TLS, "
            "write redis:// in XRAYCAM_BROKER_URL; otherwise check its address and certificate"
        )
    return BrokerUnreachable(
        f"the broker {redact_url(url)} does not answer: {cause}; check XRAYCAM_BROKER_URL, "
        "and that the server runs"
    )


# What servers answer, in small letters, and what that means for the URL.
_REFUSALS = (
    (
        "hello must be called with the client already authenticated",
        "wants a password: write redis://:PASSWORD@HOST:PORT/0 in XRAYCAM_BROKER_URL",
    ),
    (
        "authentication required",
        "wants a password: write redis://:PASSWORD@HOST:PORT/0 in XRAYCAM_BROKER_URL",
    ),
    ("noauth", "wants a password: write redis://:PASSWORD@HOST:PORT/0 in XRAYCAM_BROKER_URL"),
    ("invalid username-password pair", "refuses user or password: check both in XRAYCAM_BROKER_URL"),
    ("wrongpass", "refuses user or password: check both in XRAYCAM_BROKER_URL"),
    (
        "without any password configured",
        "has no password, but XRAYCAM_BROKER_URL gives one: leave it out, or check that this is the server",
    ),
    ("noperm", "does not permit this user all that is needed: give it ~* &* +@all"),
    ("has no permissions", "does not permit this user all that is needed: give it ~* &* +@all"),
    ("db index is out of range", "has no such database number: end XRAYCAM_BROKER_URL in /0"),
)


def move_to_front(url: str, queue: str, count: int) -> None:
    """Have the `count` messages sent last delivered next. Raises BrokerUnreachable.

    Messages enter a list on the left and leave it on the right. If others send at the same moment, some of
    theirs are moved instead, which changes no more than the order.
    """
    import redis

    try:
        with client(url).pipeline(transaction=False) as pipe:
            for _ in range(count):
                pipe.lmove(queue, queue, "LEFT", "RIGHT")
            pipe.execute()
    except (redis.RedisError, OSError) as error:
        raise broker_error(url, error) from error


def queue_length(url: str, queue: str) -> int:
    """Messages that wait in a queue. Raises BrokerUnreachable."""
    import redis

    try:
        return int(client(url).llen(queue))
    except (redis.RedisError, OSError) as error:
        raise broker_error(url, error) from error
