"""Taking a training from the queue: leased, done in this process, and the row says how it ended.

TensorFlow is imported once the row says that the training runs: that alone takes many seconds.
"""

from __future__ import annotations

import logging

from db.errors import DatabaseUnavailable, LedgerError
from db.ledger import Ledger
from db.trainings import fail_training, renew_training, start_training
from db.workers import update_worker
from worker.errors import XraycamError
from worker.serve.guards import LeaseRenewer
from worker.settings import Settings

log = logging.getLogger(__name__)

# How soon a cancelled training stops, at most, apart from the current batch.
LOOK_SECONDS = 2.0


def run_training(settings: Settings, ledger: Ledger, owner: str, training_id: int) -> None:
    """Do a queued training to its end; one that is not queued is left alone.

    Whatever goes wrong is noted in the ledger. A training that is cancelled meanwhile, or taken from us,
    stops after the current batch and publishes nothing.
    """
    training = ledger.write(start_training, training_id, owner, settings.lease_timeout)
    if training is None:
        log.warning("training %d is not queued: there is nothing to do", training_id)
        return

    def renew() -> bool:
        return ledger.write(renew_training, training, settings.lease_timeout)

    period = min(LOOK_SECONDS, settings.lease_timeout / 3)
    with LeaseRenewer(renew, period, f"training {training_id}") as keeper:
        try:
            from worker.train.job import TrainingJob

            TrainingJob(settings, ledger, owner, training, keeper).run()
        except DatabaseUnavailable:
            raise
        except (XraycamError, LedgerError) as error:
            log.warning("training %d: %s", training_id, error)
            # Changes nothing where it stopped because it is no longer ours.
            ledger.write(fail_training, training, str(error))
        except Exception as error:
            log.exception("training %d failed", training_id)
            cause = " ".join(str(error).split())[:300]
            ledger.write(
                fail_training,
                training,
                f"{type(error).__name__}: {cause}; the log of worker {owner} tells more",
            )
    ledger.write(update_worker, owner, activity=None)
