"""Queues, tasks, and the messages that name work: small, JSON, readable for people who watch the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery

EXPLAIN_QUEUE = "explain"
TRAIN_QUEUE = "train"
QUEUES = (EXPLAIN_QUEUE, TRAIN_QUEUE)

EXPLAIN_CHUNK = "xraycam.explain_chunk"
TRAIN = "xraycam.train"


BATCH = 500


def send_chunks(
    app: Celery, producer: Any, *, run_id: int, root: str, numbers: Sequence[int], total: int
) -> None:
    """Send a message for each of these chunks of a run, in one go. A message sent twice does no harm."""
    folder = repr(root)
    with producer.batch(max_size=BATCH):
        for number in numbers:
            app.send_task(
                EXPLAIN_CHUNK,
                kwargs={"run": run_id, "chunk": number},
                queue=EXPLAIN_QUEUE,
                producer=producer,
                argsrepr=folder,
                kwargsrepr=f"chunk {number}/{total}, run {run_id}",
            )
