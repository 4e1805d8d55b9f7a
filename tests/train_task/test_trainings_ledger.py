"""What the ledger knows of trainings, on both databases."""

from __future__ import annotations

import time
from typing import Any

import pytest

from db.errors import TrainingNotFound, TrainingNotResumable
from db.ledger import Ledger
from db.trainings import (
    PUBLISHING,
    Training,
    add_training,
    cancel_training,
    claim_unpublished_trainings,
    fail_training,
    finish_training,
    get_training,
    list_trainings,
    record_epoch,
    renew_training,
    requeue_training,
    requeue_trainings_of,
    set_stage,
    start_training,
)


def ask(ledger: Ledger, **options: Any) -> Training:
    return ledger.write(
        add_training, dataset="/data", recipe={"name": "tiny"}, init_weights="none", options=options, epochs=4
    )


def start(ledger: Ledger, number: int, seconds: float = 60) -> Training:
    training = ledger.write(start_training, number, "trainer", seconds)
    assert training is not None
    return training


def epoch(number: int, **figures: float) -> dict[str, Any]:
    return {"stage": "head", "epoch": number, "loss": 0.7, "val_loss": 0.6, "val_auc": 0.8} | figures


def test_a_training_is_started_once(ledger: Ledger) -> None:
    asked = ask(ledger)
    assert (asked.state, asked.start) == ("queued", 0)
    started = start(ledger, asked.id)
    assert (started.state, started.start, started.owner) == ("running", 1, "trainer")
    assert ledger.write(start_training, asked.id, "another", 60) is None
    assert ledger.write(start_training, 99, "another", 60) is None


def test_a_training_whose_lease_ended_is_lost_to_readers_and_nothing_is_stored(ledger: Ledger) -> None:
    training = start(ledger, ask(ledger).id, seconds=0.2)
    time.sleep(0.3)
    assert ledger.query(get_training, training.id).state == "lost"
    # Its trainer was only slow: nobody else has it.
    assert ledger.write(renew_training, training, 60)
    assert ledger.query(get_training, training.id).state == "running"


def test_a_lost_training_is_not_started_by_a_second_delivery_but_when_resumed(ledger: Ledger) -> None:
    first = start(ledger, ask(ledger).id, seconds=0.1)
    time.sleep(0.2)
    assert ledger.write(start_training, first.id, "another", 60) is None
    assert ledger.write(requeue_training, first.id).state == "queued"
    second = start(ledger, first.id)
    assert second.start == 2
    # The first trainer comes back, and can do nothing any more.
    assert not ledger.write(renew_training, first, 60)
    assert not ledger.write(record_epoch, first, [epoch(1)], 10.0)
    assert not ledger.write(finish_training, first, version="v", promotion_reason="promoted")
    assert not ledger.write(fail_training, first, "no")
    assert ledger.write(renew_training, second, 60)


def test_epochs_and_the_time_left_are_kept(ledger: Ledger) -> None:
    training = start(ledger, ask(ledger).id)
    assert ledger.write(record_epoch, training, [epoch(1), epoch(2, loss=float("nan"), val_auc=0.9)], 100.0)
    found = ledger.query(get_training, training.id)
    assert (found.epoch, found.stage, found.loss, found.val_auc) == (2, "head", None, 0.9)
    assert [known["epoch"] for known in found.history] == [1, 2]
    assert found.eta_seconds is not None
    time.sleep(0.2)
    later = ledger.query(get_training, training.id).eta_seconds
    assert later is not None
    assert 90 < later < found.eta_seconds <= 100


def test_a_cancelled_training_is_no_longer_its_trainers(ledger: Ledger) -> None:
    training = start(ledger, ask(ledger).id)
    assert ledger.write(cancel_training, training.id).state == "cancelled"
    assert not ledger.write(renew_training, training, 60)
    assert not ledger.write(set_stage, training, PUBLISHING)
    assert ledger.write(requeue_training, training.id, version="renamed").options["version"] == "renamed"


def test_a_training_that_is_published_is_not_cancelled_unless_its_trainer_is_lost(ledger: Ledger) -> None:
    training = start(ledger, ask(ledger).id)
    assert ledger.write(set_stage, training, PUBLISHING)
    assert ledger.write(cancel_training, training.id).state == "running"
    assert ledger.write(requeue_trainings_of, "trainer") == 0
    assert ledger.write(renew_training, training, 0.05)
    time.sleep(0.1)
    assert ledger.write(cancel_training, training.id).state == "cancelled"


def test_a_done_or_running_training_is_not_resumed(ledger: Ledger) -> None:
    training = start(ledger, ask(ledger).id)
    with pytest.raises(TrainingNotResumable, match="running, on trainer; 'xraycam cancel --training 1'"):
        ledger.write(requeue_training, training.id)
    assert ledger.write(finish_training, training, version="data-1", promotion_reason="promoted")
    with pytest.raises(TrainingNotResumable, match="done and made model data-1"):
        ledger.write(requeue_training, training.id)
    assert ledger.write(cancel_training, training.id).state == "done"
    with pytest.raises(TrainingNotFound, match="no training 7"):
        ledger.write(requeue_training, 7)


def test_what_a_stopped_trainer_had_leased_waits_for_another(ledger: Ledger) -> None:
    first, second = ask(ledger), ask(ledger)
    training = start(ledger, first.id)
    assert ledger.write(requeue_trainings_of, "nobody") == 0
    assert ledger.write(requeue_trainings_of, "trainer") == 1
    assert not ledger.write(renew_training, training, 60)
    assert [known.id for known in ledger.query(list_trainings)] == [second.id, first.id]
    # The message of the second was sent a moment ago; the first has none, and is claimed once.
    assert [unsent.id for unsent in ledger.write(claim_unpublished_trainings, 60)] == [first.id]
    assert ledger.write(claim_unpublished_trainings, 60) == []
    time.sleep(0.02)
    assert [unsent.id for unsent in ledger.write(claim_unpublished_trainings, 0.01)] == [first.id, second.id]
