"""Sends again what was lost: chunks of dead workers, and messages of a broker that lost its memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from kombu.exceptions import OperationalError

from db.errors import LedgerError
from db.leases import ReclaimedChunks, claim_unpublished, reclaim_expired, reclaim_from_worker
from db.ledger import Ledger
from db.trainings import claim_unpublished_trainings
from worker.counted_words import counted
from worker.queue.broker import BrokerUnreachable, move_to_front, queue_length
from worker.queue.celery_app import create_celery_app
from worker.queue.messages import BATCH, EXPLAIN_QUEUE, TRAIN_QUEUE, send_chunks, send_training
from worker.settings import Settings

log = logging.getLogger(__name__)

# An unleased chunk whose message is older than this, while the queue is empty, has no message. Longer than
# a worker holds one back because of a fault that may pass.
LOST_SECONDS = 30.0


@dataclass(frozen=True)
class ReaperScope:
    """What a reaper looks after. A command that works on this machine alone takes up nothing but its own:
    `run_id`, its run; None: no run."""

    everything: bool = False
    run_id: int | None = None


ALL_WORK = ReaperScope(everything=True)


class Reaper:
    """Every launcher has one; several do not disturb each other, since the ledger gives a chunk to one."""

    def __init__(self, settings: Settings, ledger: Ledger, scope: ReaperScope = ALL_WORK) -> None:
        self.scope = scope
        self._settings = settings
        self._ledger = ledger
        self._app = create_celery_app(settings)
        self._every = min(5.0, settings.lease_timeout / 4)
        self._next = 0.0

    def tick(self) -> None:
        """Look for lost work if it is time."""
        moment = time.monotonic()
        if moment < self._next:
            return
        self._next = moment + self._every
        if not self.scope.everything and self.scope.run_id is None:
            return
        run_id = self.scope.run_id
        try:
            lost = reclaim_expired(self._ledger, run_id=run_id)
            self._publish_at_front(lost, "their worker went silent")
            broker = self._settings.broker
            if broker is not None and queue_length(broker, EXPLAIN_QUEUE) == 0:
                # No more than keeps to the limit together with a producer that fills the queue just now.
                some = max(1, min(BATCH, self._settings.max_queued_messages // 2))
                self._send(
                    claim_unpublished(self._ledger, LOST_SECONDS, some, run_id), "their messages were lost"
                )
            # Trainers hold no message back: without one in the queue, those that wait have none.
            serves_all = self.scope.everything
            if serves_all and broker is not None and queue_length(broker, TRAIN_QUEUE) == 0:
                for training in self._ledger.write(claim_unpublished_trainings, LOST_SECONDS):
                    send_training(self._app, training)
                    log.warning("training %d sent again", training.id)
        except (LedgerError, BrokerUnreachable, OperationalError, OSError) as error:
            log.warning("lost work not looked for: %s", error)

    def requeue_from_worker(self, worker: str) -> None:
        """Free and send again at once what a worker held that has just died."""
        try:
            self._publish_at_front(reclaim_from_worker(self._ledger, worker), "their worker died")
        except (LedgerError, BrokerUnreachable, OperationalError, OSError) as error:
            log.warning("chunks of %s wait for the end of their lease: %s", worker, error)

    def _publish_at_front(self, idle: Sequence[ReclaimedChunks], why: str) -> None:
        """Send chunks that a worker had begun: they do not queue up again behind all that waits."""
        self._send(idle, why)
        if idle and self._settings.broker is not None:
            count = sum(len(part.numbers) for part in idle)
            move_to_front(self._settings.broker, EXPLAIN_QUEUE, count)

    def _send(self, idle: Sequence[ReclaimedChunks], why: str) -> None:
        if not idle:
            return
        with self._app.connection_for_write() as connection:
            producer = self._app.amqp.Producer(connection)
            for part in idle:
                send_chunks(
                    self._app,
                    producer,
                    run_id=part.run_id,
                    root=part.root,
                    numbers=part.numbers,
                    total=part.total,
                )
                sent = counted(len(part.numbers), "chunk")
                log.warning("run %d: %s sent again, %s", part.run_id, sent, why)
