"""Sending a training to the trainers. Light: no TensorFlow here."""

from __future__ import annotations

import logging

from db.ledger import Ledger
from db.trainings import Training, claim_unpublished_trainings
from worker.queue.celery_app import create_celery_app
from worker.queue.messages import TRAIN, TRAIN_QUEUE
from worker.settings import Settings

log = logging.getLogger(__name__)


def send_training(settings: Settings, training: Training) -> None:
    """Send the message for a queued training; one sent twice does no harm.

    Raises kombu's OperationalError when the broker does not answer.
    """
    app = create_celery_app(settings)
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


def publish_unpublished(settings: Settings, ledger: Ledger, seconds: float) -> None:
    """Send the queued trainings whose message was sent more than `seconds` ago or never.

    Raises kombu's OperationalError when the broker does not answer.
    """
    for training in claim_unpublished_trainings(ledger, seconds):
        send_training(settings, training)
        log.warning("training %d sent again", training.id)
