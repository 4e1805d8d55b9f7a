"""Training on this machine alone: a trainer, and a broker where none is configured, while it takes."""

from __future__ import annotations

from db.trainings import QUEUED, Training, cancel_training, get_training
from producer.exit_status import INTERRUPTED
from producer.fleet import Fleet, local_fleet
from producer.local_run import stopped_once
from producer.session import Session
from producer.train_display import TrainingDisplay, report_training, wait_for_training
from worker.queue.names import TRAIN_QUEUE
from worker.queue.training_queue import send_training


def train_here(session: Session, training: Training, gpus: str = "all") -> int:
    """Start a trainer, wait until the training has ended, stop the trainer; the exit status.

    Ctrl-C cancels the training, which stays resumable.
    """
    try:
        with (
            stopped_once(),
            local_fleet(session.settings, session.ledger, gpus, queues=[TRAIN_QUEUE]) as fleet,
        ):
            overseer = _Overseer(fleet)
            try:
                with TrainingDisplay(session.err, session.ledger, training.id) as display:
                    ended = wait_for_training(display, overseer.tick)
            except KeyboardInterrupt:
                # Told before the trainer is stopped: it ends after the batch in hand, not when killed.
                cancel_training(session.ledger, training.id)
                raise
    except KeyboardInterrupt:
        found = get_training(session.ledger, training.id)
        report_training(session, found)
        return INTERRUPTED if found.version is None else 0
    return report_training(session, ended)


class _Overseer:
    """Keeps the trainer going, and sends the training, again where the private broker had to be restarted."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._is_sent = False

    def tick(self, training: Training) -> None:
        broker_was_lost = self._fleet.tick()
        if training.state == QUEUED and (broker_was_lost or not self._is_sent):
            send_training(self._fleet.settings, training)
            self._is_sent = True
