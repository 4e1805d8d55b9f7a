"""Talking to the broker: whether it answers, how long its queue is, without its password in any message."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from worker.errors import XraycamError


class BrokerUnreachable(XraycamError):
    """Raised when the broker does not answer."""


def redact_url(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:***@{host}{port}"))


def client(url: str, timeout: float = 5.0) -> Any:
    """A redis-py client for a Celery broker URL."""
    import redis

    plain = url.replace("redis+socket://", "unix://", 1)
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
    return BrokerUnreachable(
        f"the broker {redact_url(url)} does not answer: {cause}; check XRAYCAM_BROKER_URL, "
        "and that the server runs"
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
