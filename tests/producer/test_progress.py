"""What a person is told during a run or a training: what happens now, and only what is known."""

from __future__ import annotations

import io
import os
import socket
from types import SimpleNamespace

import pytest
from rich.console import Console

from db.ledger import Ledger
from db.trainings import Training, add_training, get_training, record_epoch, set_stage, start_training
from db.workers import register_worker, update_worker
from producer.progress import ProgressDisplay
from producer.status_line import doing, time_left
from producer.training_progress import TrainingDisplay
from tests.support.made_runs import finish, lease, some_files, take
from worker.train.stage_progress import StageProgress


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=None)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def add_worker(ledger: Ledger, queues: str = "explain") -> None:
    ledger.write(
        register_worker,
        name="one",
        host=socket.gethostname(),
        pid=os.getpid(),
        device="CPU",
        queues=queues,
    )


@pytest.fixture(params=[True, False], ids=["terminal", "pipe"])
def shown(request: pytest.FixtureRequest) -> Console:
    return console(terminal=request.param)


def test_before_the_first_result_a_run_says_what_it_waits_for(ledger: Ledger, shown: Console) -> None:
    run, _ = take(ledger, some_files(10))
    with ProgressDisplay(shown, ledger, run) as display:
        display.update()
        add_worker(ledger)
        display.update()
        ledger.write(update_worker, "one", activity=f"run {run.id}, chunk 1")
        display.update()
        display.update()
        ledger.write(update_worker, "one", model_version="first")
        finish(ledger, lease(ledger, run, 1))
        display.update()
    steps = ["waiting for a worker", "starting 1 worker", "loading the model", "explaining"]
    if shown.is_terminal:
        assert "explaining" in text_of(shown)
        assert "left" not in text_of(shown)
        assert "images/s" not in text_of(shown)
    else:
        assert text_of(shown).splitlines() == [f"run {run.id}: {step}" for step in steps]


def test_time_left_is_told_once_there_is_a_pace(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(0, 10_000, 3))
    monkeypatch.setattr("producer.progress.time", SimpleNamespace(monotonic=lambda: float(next(moments))))
    run, _ = take(ledger, some_files(16))
    seen = console(terminal=False)
    display = ProgressDisplay(seen, ledger, run)
    told = []
    for chunk in range(1, 5):
        found = display.update()
        told.append(list(display._figures(found)))
        finish(ledger, lease(ledger, run, chunk))
    assert told[0] == ["0/16"]
    assert told[1][0] == "4/16"
    assert not any("left" in word for word in told[1])
    assert [word for word in told[3] if "left" in word]


@pytest.fixture
def training(ledger: Ledger) -> Training:
    asked = ledger.write(
        add_training, dataset="/data", recipe={"name": "tiny"}, init_weights="none", options={}, epochs=4
    )
    started = ledger.write(start_training, asked.id, "one", 60.0)
    assert started is not None
    return started


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, for the stages of a training."""
    now = [0.0]
    monkeypatch.setattr("worker.train.stage_progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_stages_of_a_training_count_images_and_tell_the_time_left(
    ledger: Ledger, training: Training, clock: list[float]
) -> None:
    add_worker(ledger, "train")
    ledger.write(set_stage, training, "ranking maps")
    noted = StageProgress(ledger, training, "one", "ranking maps")
    left = []
    for done in (1, 2, 3, 4):
        clock[0] += 2.0
        noted(done, 12)
        left.append(ledger.query(get_training, training.id).eta_seconds)
    assert left[:2] == [None, None]
    assert left[2:] == pytest.approx([18.0, 16.0], abs=2.0)
    seen = console(terminal=True)
    with TrainingDisplay(seen, ledger, training.id) as display:
        display.update()
    assert "ranking maps" in text_of(seen)
    assert "4/12" in text_of(seen)
    assert "s left" in text_of(seen)


def test_without_a_terminal_a_training_has_a_line_for_each_stage_and_epoch(
    ledger: Ledger, training: Training
) -> None:
    seen = console(terminal=False)
    with TrainingDisplay(seen, ledger, training.id) as display:
        for stage in ("reading", "first epoch"):
            ledger.write(set_stage, training, stage)
            display.update()
            display.update()
        epoch = {"stage": "head", "epoch": 1, "loss": 0.5, "val_loss": 0.6, "val_auc": 0.7, "seconds": 2.0}
        ledger.write(record_epoch, training, [epoch], None)
        display.update()
        ledger.write(set_stage, training, "writing")
        display.update()
    number = training.id
    assert text_of(seen).splitlines() == [
        f"training {number}: started on one",
        f"training {number}: reading the dataset",
        f"training {number}: preparing the first epoch",
        "epoch 1/4 (head): loss 0.500, validation loss 0.600, AUC 0.700, 2.0 s",
        f"training {number}: writing the version and its card",
    ]


def test_what_takes_long_before_a_run_has_a_line_a_minute_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("producer.status_line.LINE_SECONDS", 0.0)
    seen = console(terminal=False)
    with doing(seen, "scanning") as tell:
        tell("scanning, 1,200 files")
    assert text_of(seen).strip() == "scanning, 1,200 files"
    with doing(None, "nobody is told") as tell:
        tell("of this")


@pytest.mark.parametrize(
    ("seconds", "words"), [(4.2, "4 s left"), (600.0, "10 min left"), (9000.0, "2.5 h left")]
)
def test_time_left_is_no_more_exact_than_it_is_known(seconds: float, words: str) -> None:
    assert time_left(seconds) == words
