"""Sending a training to the trainers. Light: no TensorFlow here."""

from __future__ import annotations

import logging

from kombu.exceptions import OperationalError

from db.ledger import Ledger
from db.trainings import Training, queued_trainings
from worker.queueing import TRAIN, TRAIN_QUEUE, make_app
from worker.settings import Settings

log = logging.getLogger(__name__)


def send_training(settings: Settings, training: Training) -> None:
    """Send the message for a queued training; one sent twice does no harm.

    Raises kombu's OperationalError when the broker does not answer.
    """
    app = make_app(settings)
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


def send_queued(settings: Settings, ledger: Ledger) -> None:
    """Send all queued trainings again, for the case that their messages were lost.

    A broker that does not answer is no error: whoever starts a trainer next sends them.
    """
    try:
        for training in queued_trainings(ledger):
            send_training(settings, training)
    except (OperationalError, OSError) as error:
        log.warning("queued trainings are not sent again: %s", error)
