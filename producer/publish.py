"""Sending the messages for a run's chunks: in batches, never more than the broker should hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from db.leases import mark_published, unfinished_chunks
from db.ledger import Ledger
from db.runs import Run
from producer.interrupts import raise_if_interrupted
from worker.queue.broker import BrokerUnreachable, broker_error, queue_length
from worker.queue.celery_app import create_celery_app
from worker.queue.messages import BATCH, EXPLAIN_QUEUE, send_chunks
from worker.settings import Settings

# A long enqueue outlives a restart of the broker.
RETRY_TIMEOUT = 60.0
PAUSE_SECONDS = 0.2


def publish_chunks(
    settings: Settings, ledger: Ledger, run: Run, chunks: int, on_wait: Callable[[], object] | None = None
) -> int:
    """Send a message for every unfinished chunk of a run; returns how many.

    `chunks`: how many the run has, for people to read. Waits, calling `on_wait` meanwhile, while the
    queue holds more messages than `max_queued_messages`, while the broker's memory is full, and for a
    minute while it is away. Raises BrokerUnreachable after that. A message sent twice does no harm.
    """
    broker = settings.broker
    assert broker is not None  # commands make sure of a broker before they publish
    app = create_celery_app(settings)
    sent = 0
    # A part of the limit, so that the queue is filled up before it is empty and workers wait.
    batch_size = most_at_once = max(1, min(BATCH, settings.max_queued_messages // 4))
    answered = time.monotonic()
    for numbers in unfinished_chunks(ledger, run.id, most_at_once):
        while numbers:
            raise_if_interrupted()
            part = numbers[:batch_size]
            try:
                has_room = queue_length(broker, EXPLAIN_QUEUE) + len(part) <= settings.max_queued_messages
                if has_room:
                    _send(app, run, part, chunks)
                answered = time.monotonic()
            except (BrokerUnreachable, KombuError, OperationalError, OSError) as error:
                has_room = False
                # Of a broker that is full some messages get through, so that a batch tried again as a
                # whole might fill it for ever.
                batch_size = max(1, batch_size // 4)
                if _is_full(error):
                    answered = time.monotonic()
                elif time.monotonic() - answered > RETRY_TIMEOUT:
                    raise broker_error(broker, list(_causes(error))[-1]) from error
            if has_room:
                ledger.write(mark_published, run.id, part)
                sent += len(part)
                numbers = numbers[len(part) :]
                batch_size = min(most_at_once, batch_size * 2)
            else:
                if on_wait is not None:
                    on_wait()
                time.sleep(PAUSE_SECONDS)
    return sent


def _send(app: Celery, run: Run, numbers: Sequence[int], chunks: int) -> None:
    with app.connection_for_write() as connection:
        producer = app.amqp.Producer(connection)
        send_chunks(app, producer, run_id=run.id, root=run.root, numbers=numbers, total=chunks)


def _is_full(error: BaseException) -> bool:
    from redis.exceptions import OutOfMemoryError

    return any(isinstance(cause, OutOfMemoryError) for cause in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it came from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
