"""The trainer's side of the ledger: lease a training, note how far it is, and how it ended.

Each function answers whether the training is still ours: it is not once it was cancelled or given to another.
"""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import Connection, or_, update

from db.clock import now
from db.ledger import Ledger
from db.schema import trainings
from db.trainings import (
    DONE,
    FAILED,
    PUBLISHING,
    QUEUED,
    RUNNING,
    Training,
    back_in_queue,
    ended,
    get_training,
)


def start_training(ledger: Ledger, training_id: int, owner: str, seconds: float) -> Training | None:
    """Lease a queued training for `seconds` by the database's clock; None when it is not queued."""

    def work(connection: Connection) -> bool:
        return bool(
            connection.execute(
                update(trainings)
                .where(trainings.c.id == training_id, trainings.c.state == QUEUED)
                .values(
                    state=RUNNING,
                    start=trainings.c.start + 1,
                    owner=owner,
                    lease_until=now(seconds),
                    started_at=now(),
                    seconds_left=None,
                )
            ).rowcount
        )

    return get_training(ledger, training_id) if ledger.write(work) else None


def renew_training(ledger: Ledger, training: Training, seconds: float) -> bool:
    """Hold a training for another `seconds`; false when it was cancelled or is no longer ours."""
    return _change(ledger, training, {"lease_until": now(seconds)})


def note_stage(ledger: Ledger, training: Training, stage: str) -> bool:
    """Note what a training is at; false when it is no longer ours."""
    return _change(ledger, training, {"stage": stage, "seconds_left": None})


def note_epoch(
    ledger: Ledger, training: Training, history: list[dict[str, Any]], seconds_left: float | None
) -> bool:
    """Note the epochs done so far; false when the training is no longer ours.

    Each has `stage`, `epoch`, `loss`, `val_loss`, `val_auc`; what is not a finite number is stored as null.
    """
    known = [{name: _finite(value) for name, value in epoch.items()} for epoch in history]
    last = known[-1]
    values = {
        "stage": last["stage"],
        "epoch": last["epoch"],
        "loss": last["loss"],
        "val_loss": last["val_loss"],
        "val_auc": last["val_auc"],
        "history": known,
        "seconds_left": seconds_left,
        "progress_at": now(),
    }
    return _change(ledger, training, values)


def finish_training(ledger: Ledger, training: Training, *, version: str, verdict: str) -> bool:
    """Note that a training made a version, and whether that became current, in words."""
    values = {"state": DONE, "version": version, "verdict": verdict, "stage": None, "error": None}
    return _change(ledger, training, values | ended())


def fail_training(ledger: Ledger, training: Training, error: str) -> bool:
    """Note why a training came to nothing."""
    return _change(ledger, training, {"state": FAILED, "error": error} | ended())


def return_trainings(ledger: Ledger, owner: str) -> int:
    """Put what an owner that stops is training back into the queue, for whoever sends what is unsent."""

    def work(connection: Connection) -> int:
        return connection.execute(
            update(trainings)
            .where(
                trainings.c.owner == owner,
                trainings.c.state == RUNNING,
                or_(trainings.c.stage.is_(None), trainings.c.stage != PUBLISHING),
            )
            .values(back_in_queue())
        ).rowcount

    return ledger.write(work)


def _change(ledger: Ledger, training: Training, values: dict[str, Any]) -> bool:
    """Change the row of a training that is ours; false when it no longer is."""

    def work(connection: Connection) -> bool:
        return bool(
            connection.execute(
                update(trainings)
                .where(
                    trainings.c.id == training.id,
                    trainings.c.start == training.start,
                    trainings.c.state == RUNNING,
                )
                .values(values)
            ).rowcount
        )

    return ledger.write(work)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
