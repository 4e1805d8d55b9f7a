"""From Redis to Celery, for workers: messages that are not ours are refused before Celery sees them."""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis

from worker.queue.message_schema import InvalidMessage, check_envelope, check_message
from worker.queue.messages import QUEUES

log = logging.getLogger(__name__)

# What decoding raises for bytes that are no JSON, or JSON that stands for no value.
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError)


class _QoS(redis.QoS):
    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        try:
            super().restore_by_tag(tag, client, leftmost)
        except _MALFORMED as error:
            _reject(f"it cannot be delivered again: {error}")
            with self.channel.conn_or_acquire(client) as connection:
                connection.zrem(self.unacked_index_key, tag)
                connection.hdel(self.unacked_key, tag)


class _Channel(redis.Channel):
    QoS = _QoS

    def _brpop_read(self, **options: Any) -> Any:
        self.connection.is_delivering = False
        try:
            return super()._brpop_read(**options)
        except _MALFORMED as error:
            if self.connection.is_delivering:
                raise
            _reject(f"it is no JSON: {error}")
            return True


class Transport(redis.Transport):
    """Kombu's transport for Redis, with a look at each message."""

    Channel = _Channel
    is_delivering = False

    def _deliver(self, message: Any, queue: str) -> None:
        self.is_delivering = True
        try:
            check_envelope(message)
            if queue in QUEUES:
                check_message(message)
        except InvalidMessage as refusal:
            _reject(str(refusal))
            return
        super()._deliver(message, queue)


def register_transport() -> None:
    """Have every connection of this process to Redis use it."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = "worker.queue.transport:Transport"


def _reject(why: str) -> None:
    log.error("a message is refused: %s", why[:500])
