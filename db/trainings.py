"""Trainings: what is to be trained, its progress and outcome; and the trainer's side of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, or_, select, update

from db.dialect import a_key, now
from db.errors import TrainingNotFound, TrainingNotResumable
from db.schema import trainings

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
# Never stored: what a reader calls a running training whose trainer let its lease end.
LOST = "lost"
# The stage in which a training can no longer be cancelled.
PUBLISHING = "publishing"


@dataclass(frozen=True)
class Training:
    """`state` is as stored, or `lost`. `start` counts how often it was started: a trainer that was
    replaced by another is known by its older number. `eta_seconds` is estimated; None: not known."""

    id: int
    dataset: str
    recipe: dict[str, Any]
    init_weights: str
    options: dict[str, Any]
    state: str
    start: int
    stage: str | None
    epoch: int
    epochs: int
    loss: float | None
    val_loss: float | None
    val_auc: float | None
    history: list[dict[str, Any]]
    eta_seconds: float | None
    owner: str | None
    version: str | None
    promotion_reason: str | None
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen unless it is resumed."""
        return self.state not in (QUEUED, RUNNING)


def add_training(
    connection: Connection,
    *,
    dataset: str,
    recipe: dict[str, Any],
    init_weights: str,
    options: dict[str, Any],
    epochs: int,
) -> Training:
    """Note a training that is asked for, and whose message is sent next; `dataset` is absolute."""
    values = {
        "dataset": dataset,
        "recipe": recipe,
        "init_weights": init_weights,
        "options": options,
        "state": QUEUED,
        "epochs": epochs,
        "history": [],
        "created_at": now(),
        "published_at": now(),
    }

    key = connection.execute(insert(trainings).values(values)).inserted_primary_key
    assert key is not None  # narrows the type; an insert of one row has a key
    return get_training(connection, int(key[0]))


def get_training(connection: Connection, training_id: int) -> Training:
    """The training with this number. Raises TrainingNotFound."""
    found = _select(connection, trainings.c.id == a_key(training_id), limit=1)
    if not found:
        raise TrainingNotFound(f"there is no training {training_id}; 'xraycam trainings' lists them")
    return found[0]


def list_trainings(connection: Connection, limit: int = 50) -> list[Training]:
    """The newest trainings, newest first."""
    return _select(connection, None, limit)


def claim_unpublished_trainings(connection: Connection, seconds: float) -> list[Training]:
    """The queued trainings whose message was sent more than `seconds` ago or never, oldest first.

    Noted as sent now, so that of several who ask one gets each.
    """
    unsent = or_(trainings.c.published_at.is_(None), trainings.c.published_at < now(-seconds))
    rows = connection.execute(
        update(trainings)
        .where(trainings.c.state == QUEUED, unsent)
        .values(published_at=now())
        .returning(trainings.c.id)
    )
    return [get_training(connection, number) for number in sorted(row.id for row in rows)]


def cancel_training(connection: Connection, training_id: int) -> Training:
    """Cancel a training unless it has ended or is being published; its state afterwards tells.

    Raises TrainingNotFound.
    """
    published = and_(trainings.c.stage == PUBLISHING, trainings.c.lease_expires_at >= now())
    connection.execute(
        update(trainings)
        .where(
            trainings.c.id == a_key(training_id),
            trainings.c.state.in_((QUEUED, RUNNING)),
            or_(trainings.c.stage.is_(None), ~published),
        )
        .values({"state": CANCELLED} | finished_values())
    )
    return get_training(connection, training_id)


def requeue_training(connection: Connection, training_id: int, version: str | None = None) -> Training:
    """Have a failed, cancelled or lost training continue; `version` names the model anew.

    Raises TrainingNotFound, and TrainingNotResumable for one that is done or running.
    """
    training = get_training(connection, training_id)
    options = training.options if version is None else training.options | {"version": version}
    values = queued_values() | {"options": options, "error": None, "finished_at": None, "published_at": now()}
    stopped = or_(trainings.c.state.in_((QUEUED, FAILED, CANCELLED)), _is_lost())
    if connection.execute(
        update(trainings).where(trainings.c.id == training_id, stopped).values(values)
    ).rowcount:
        return get_training(connection, training_id)
    training = get_training(connection, training_id)
    if training.state == DONE:
        made = f"is done and made model {training.version}"
    else:
        made = f"is running, on {training.owner}; 'xraycam cancel --training {training_id}' stops it"
    raise TrainingNotResumable(f"training {training_id} cannot be resumed: it {made}")


def queued_values() -> dict[str, Any]:
    """Column values of a training that waits for a trainer again, its message unsent."""
    values = ("owner", "lease_expires_at", "stage", "eta_seconds", "published_at")
    return {"state": QUEUED} | dict.fromkeys(values)


def finished_values() -> dict[str, Any]:
    """Column values of a training with which nothing more happens."""
    return {"finished_at": now(), "lease_expires_at": None, "eta_seconds": None}


def _is_lost() -> ColumnElement[bool]:
    return and_(trainings.c.state == RUNNING, trainings.c.lease_expires_at < now())


def _select(connection: Connection, condition: ColumnElement[bool] | None, limit: int) -> list[Training]:
    statement = select(trainings, _is_lost().label("is_lost"), now().label("moment"))
    if condition is not None:
        statement = statement.where(condition)
    rows = connection.execute(statement.order_by(trainings.c.id.desc()).limit(limit)).all()
    return [_training(row) for row in rows]


def _training(row: Row[Any]) -> Training:
    values = {name: getattr(row, name) for name in Training.__dataclass_fields__}
    if row.is_lost:
        values |= {"state": LOST, "eta_seconds": None}
    elif row.eta_seconds is not None and row.progress_at is not None:
        passed = (row.moment - row.progress_at).total_seconds()
        values["eta_seconds"] = max(0.0, row.eta_seconds - passed)
    return Training(**values)


def start_training(connection: Connection, training_id: int, owner: str, seconds: float) -> Training | None:
    """Lease a queued training for `seconds` by the database's clock; None when it is not queued."""
    started = connection.execute(
        update(trainings)
        .where(trainings.c.id == training_id, trainings.c.state == QUEUED)
        .values(
            state=RUNNING,
            start=trainings.c.start + 1,
            owner=owner,
            lease_expires_at=now(seconds),
            started_at=now(),
            eta_seconds=None,
        )
    ).rowcount
    return get_training(connection, training_id) if started else None


def renew_training(connection: Connection, training: Training, seconds: float) -> bool:
    """Hold a training for another `seconds`; false when it was cancelled or is no longer ours."""
    return _change(connection, training, {"lease_expires_at": now(seconds)})


def set_stage(
    connection: Connection, training: Training, stage: str, eta_seconds: float | None = None
) -> bool:
    """Note what a training is at, and how long that takes yet; false when it is no longer ours."""
    return _change(connection, training, {"stage": stage, "eta_seconds": eta_seconds, "progress_at": now()})


def record_epoch(
    connection: Connection, training: Training, history: list[dict[str, Any]], eta_seconds: float | None
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
        "eta_seconds": eta_seconds,
        "progress_at": now(),
    }
    return _change(connection, training, values)


def finish_training(
    connection: Connection, training: Training, *, version: str, promotion_reason: str
) -> bool:
    """Note that a training made a version, and whether that became current, in words."""
    values = {
        "state": DONE,
        "version": version,
        "promotion_reason": promotion_reason,
        "stage": None,
        "error": None,
    }
    return _change(connection, training, values | {"stage": None, "error": None} | finished_values())


def fail_training(connection: Connection, training: Training, error: str) -> bool:
    """Note why a training came to nothing."""
    return _change(connection, training, {"state": FAILED, "error": error} | finished_values())


def requeue_trainings_of(connection: Connection, owner: str) -> int:
    """Put what an owner that stops is training back into the queue, for whoever sends what is unsent."""
    return connection.execute(
        update(trainings)
        .where(
            trainings.c.owner == owner,
            trainings.c.state == RUNNING,
            or_(trainings.c.stage.is_(None), trainings.c.stage != PUBLISHING),
        )
        .values(queued_values())
    ).rowcount


def _change(connection: Connection, training: Training, values: dict[str, Any]) -> bool:
    """Change the row of a training that is ours; false when it no longer is."""
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


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
