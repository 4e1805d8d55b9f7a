"""A model's name stands for one content as long as a run or a training bears it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from db.deletion import cancel_for_deletion, delete_model, delete_run
from db.errors import ModelNameTaken
from db.ledger import Ledger
from db.models import add_model, current_model, get_model
from db.runs import CANCELLED, set_state
from db.trainings import add_training, cancel_training, finish_training
from tests.support.ledger_writes import started_training
from tests.support.made_runs import finish, lease, some_files, take

OLD, NEW = "1" * 64, "2" * 64


def add(ledger: Ledger, version: str, digest: str, *, promote: bool = False) -> None:
    ledger.write(
        add_model, version=version, digest=digest, classes=("a", "b"), source="s", metrics={},
        promote=promote,
    )  # fmt: skip


def with_results(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(4))
    finish(ledger, lease(ledger, run, 1), model_version="mine")


def with_a_pinned_run(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(4), model_version="mine", pinned=True)
    ledger.write(set_state, run.id, CANCELLED)


def with_a_training_from_it(ledger: Ledger) -> None:
    training = started_training(ledger)
    ledger.write(finish_training, training, version="other", promotion_reason="better")
    ledger.write(add_training, dataset="/d", recipe={}, init_weights="mine", options={}, epochs=1)
    ledger.write(cancel_training, 2)


def with_a_training_of_it(ledger: Ledger) -> None:
    training = started_training(ledger)
    ledger.write(finish_training, training, version="mine", promotion_reason="better")


@pytest.mark.parametrize(
    ("prepare", "bearers"),
    [
        (with_results, "run 1 bears"),
        (with_a_pinned_run, "run 1 bears"),
        (with_a_training_of_it, "training 1 bears"),
        (with_a_training_from_it, "training 2 bears"),
    ],
)
def test_another_model_does_not_get_a_name_that_something_bears(
    ledger: Ledger, prepare: Callable[[Ledger], None], bearers: str
) -> None:
    add(ledger, "current", OLD, promote=True)
    add(ledger, "mine", OLD)
    prepare(ledger)
    ledger.write(delete_model, "mine")
    with pytest.raises(ModelNameTaken, match=f"mine is the name of another model, .* that {bearers}") as no:
        add(ledger, "mine", NEW, promote=True)
    assert "\n" not in str(no.value)
    found = ledger.query(current_model)
    assert found is not None
    assert found.version == "current"
    # The model itself may come back, and go again.
    add(ledger, "mine", OLD)
    assert ledger.query(get_model, "mine").digest == OLD
    ledger.write(delete_model, "mine")
    with pytest.raises(ModelNameTaken):
        add(ledger, "mine", NEW)


def test_a_name_that_nothing_bears_is_free_again(ledger: Ledger) -> None:
    add(ledger, "current", OLD, promote=True)
    add(ledger, "mine", OLD)
    with_results(ledger)
    take(ledger, some_files(4), root="/other")
    ledger.write(delete_model, "mine")
    with pytest.raises(ModelNameTaken, match=r"run 1 bears; .* or delete what bears the name"):
        add(ledger, "mine", NEW)
    ledger.write(cancel_for_deletion, 1)
    ledger.write(delete_run, 1)
    add(ledger, "mine", NEW)
    assert ledger.query(get_model, "mine").digest == NEW


def test_those_who_bear_a_name_are_listed_up_to_some(ledger: Ledger) -> None:
    add(ledger, "current", OLD, promote=True)
    add(ledger, "mine", OLD)
    for number in range(7):
        run, _ = take(ledger, some_files(1), root=f"/{number}", model_version="mine", pinned=True)
        ledger.write(set_state, run.id, CANCELLED)
    with_a_training_of_it(ledger)
    ledger.write(delete_model, "mine")
    with pytest.raises(ModelNameTaken, match="that runs 1, 2, 3, 4, 5 and 2 more and training 1 bear; give"):
        add(ledger, "mine", NEW)
