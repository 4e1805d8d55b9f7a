"""Sending the messages for a run's chunks: in batches, never more than the broker should hold."""

from __future__ import annotations

import time
from collections.abc import Callable

from kombu.exceptions import OperationalError

from db.ledger import Ledger
from db.runs import Run
from db.work import mark_sent, unfinished_chunks
from worker.broker import queue_length, unreachable
from worker.messages import BATCH, send_chunks
from worker.queueing import EXPLAIN_QUEUE, make_app
from worker.settings import Settings


def publish_chunks(
    settings: Settings, ledger: Ledger, run: Run, chunks: int, on_wait: Callable[[], object] | None = None
) -> int:
    """Send a message for every unfinished chunk of a run; returns how many.

    `chunks`: how many the run has, for people to read. Waits while the queue holds more messages than
    the setting `queue_limit`, calling `on_wait` meanwhile. Raises BrokerUnreachable. A message sent
    twice does no harm.
    """
    broker = settings.broker
    assert broker is not None  # commands make sure of a broker before they publish
    app = make_app(settings)
    sent = 0
    batch = min(BATCH, settings.queue_limit)
    try:
        with app.connection_for_write() as connection:
            producer = app.amqp.Producer(connection)
            for numbers in unfinished_chunks(ledger, run.id, batch):
                while queue_length(broker, EXPLAIN_QUEUE) + len(numbers) > settings.queue_limit:
                    if on_wait is not None:
                        on_wait()
                    time.sleep(0.2)
                send_chunks(app, producer, run_id=run.id, root=run.root, numbers=numbers, total=chunks)
                mark_sent(ledger, run.id, numbers)
                sent += len(numbers)
    except (OperationalError, OSError) as error:
        raise unreachable(broker, error) from error
    return sent
