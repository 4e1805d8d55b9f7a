"""Queues, tasks, and the messages that name work: small, JSON, readable for people who watch the queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery import Celery

    from db.trainings import Training

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


def send_training(app: Celery, training: Training) -> None:
    """Send the message for a queued training; one sent twice does no harm.

    Raises kombu's OperationalError when the broker does not answer.
    """
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        app.send_task(
            TRAIN,
            kwargs={"training": training.id},
            queue=TRAIN_QUEUE,
            connection=connection,
            argsrepr=repr(training.dataset),
            kwargsrepr=f"training {training.id}, recipe {training.recipe.get('name')}",
        )
