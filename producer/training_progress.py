"""Showing how far a training is, from the ledger alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from db.errors import LedgerError
from db.ledger import Ledger
from db.models import get_model
from db.trainings import CANCELLED, DONE, LOST, QUEUED, RUNNING, Training, get_training
from producer import status_line
from producer.attribution_report import occlusion_report_of
from producer.cli import SOME_FAILED
from producer.interrupts import raise_if_interrupted
from producer.known_workers import live_workers
from producer.session import Session
from producer.wrapped_text import print_wrapped
from worker.counted_words import counted
from worker.errors import XraycamError
from worker.interval_words import figure_with_interval
from worker.model.doubts import doubts
from worker.model.earlier_words import said_of_earlier
from worker.model.metadata import read_metadata
from worker.model.store import store_of
from worker.queue.messages import TRAIN_QUEUE

LOOK_SECONDS = 0.5
# How long a training may wait before it is worth saying that nobody serves its queue.
RETRY_TIMEOUT = 5.0


# What is said of the stages before and after the epochs, which the ledger has in a word.
_STAGES = {
    "reading": "reading the dataset",
    "first epoch": "preparing the first epoch",
    "next epoch": "preparing the next epoch",
    "measuring": "measuring on the validation part",
    "ranking maps": "ranking maps",
    "input check": "fitting the input check",
    "writing": "writing the version and its card",
    "comparing": "comparing with the current model",
    "publishing": "publishing",
}
_COUNTED = re.compile(r", (\d+) of (\d+) images?$")


class TrainingDisplay:
    """A line on standard error for each epoch, and in a terminal a bar with what is done now and the time
    left; elsewhere a line for each stage."""

    def __init__(self, console: Console, ledger: Ledger, training_id: int) -> None:
        self._console = console
        self._ledger = ledger
        self._id = training_id
        self._shown = 0
        self._doing = ""
        self._start = 0
        self._hint_at: float | None = time.monotonic() + RETRY_TIMEOUT
        self._bar = Progress(
            TextColumn("training {task.fields[training]}: {task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[figures]}"),
            TextColumn("{task.fields[left]}"),
            console=console,
            # Without a terminal there is nothing to redraw: the lines of the epochs are all.
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, training=training_id, count="", figures="", left="")

    def __enter__(self) -> TrainingDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self) -> Training:
        """Look at the ledger and redraw."""
        training = self._ledger.query(get_training, self._id)
        if training.start > self._start and training.owner is not None:
            self._start = training.start
            self._console.print(f"training {self._id}: started on {training.owner}", soft_wrap=True)
        for epoch in training.history[self._shown :]:
            self._console.print(_line(epoch, training.epochs))
        # After a start without a checkpoint the epochs begin again.
        self._shown = len(training.history)
        self._show(training)
        if training.state == QUEUED and self._hint_at is not None and time.monotonic() > self._hint_at:
            self._hint_at = None
            self._hint()
        return training

    def _show(self, training: Training) -> None:
        doing, done, of = stage_of(training, self._activity_of(training))
        if training.state == QUEUED:
            trainers = any(worker.queues == TRAIN_QUEUE for worker in live_workers(self._ledger))
            doing, of = "starting the trainer" if trainers else "waiting for a trainer", None
        if doing != self._doing and not self._console.is_terminal and training.stage in _STAGES:
            self._console.print(f"training {self._id}: {doing}", soft_wrap=True)
        self._doing = doing
        self._bar.update(
            self._task,
            description=doing,
            total=of,
            completed=done,
            count="" if of is None else f"{done}/{of}",
            figures="" if training.val_auc is None else f"AUC {training.val_auc:.3f}",
            left=time_left(training),
        )

    def _activity_of(self, training: Training) -> str:
        if training.owner is None or training.stage not in _STAGES:
            return ""
        live = live_workers(self._ledger)
        return next((worker.activity or "" for worker in live if worker.name == training.owner), "")

    def _hint(self) -> None:
        trainers = [w for w in live_workers(self._ledger) if w.queues == TRAIN_QUEUE]
        if not trainers:
            self._console.print(
                f"training {self._id} waits: no worker serves the queue 'train'; "
                "start one with 'xraycam worker --queues train'",
                soft_wrap=True,
            )
        elif all(trainer.activity for trainer in trainers):
            self._console.print(f"training {self._id} waits: {trainers[0].activity} comes first")


def stage_of(training: Training, activity: str) -> tuple[str, int, int | None]:
    """What a training is at, in words, and how much of how much of that is done; None: not told.

    `activity`: of its trainer, which counts what it is done with in the stages that are no epochs.
    """
    if training.state != RUNNING:
        return training.state, training.epoch, training.epochs
    if training.stage is None:
        return "starting", 0, None
    if training.stage not in _STAGES:
        return f"epochs of the {training.stage}", training.epoch, training.epochs
    words = _STAGES[training.stage]
    if (found := _COUNTED.search(activity)) is None or f": {training.stage}, " not in activity:
        return words, 0, None
    return words, int(found[1]), int(found[2])


def time_left(training: Training) -> str:
    """The time that the epochs, or the stage after them, take yet; empty where it is not known."""
    # An estimate that has run out says nothing.
    if training.eta_seconds is None or training.eta_seconds < 1:
        return ""
    words = status_line.time_left(training.eta_seconds)
    return words if training.stage in _STAGES else f"{words} of the epochs"


def wait_for_training(
    display: TrainingDisplay, tick: Callable[[Training], object] = lambda _: None
) -> Training:
    """Wait until a training has ended, is cancelled or lost; `tick` is called meanwhile."""
    while True:
        training = display.update()
        if training.has_ended:
            return training
        raise_if_interrupted()
        tick(training)
        time.sleep(LOOK_SECONDS)


def report_training(session: Session, training: Training) -> int:
    """Print how a training stands; the exit status."""
    word = f"training {training.id}"
    again = f"'xraycam train --resume {training.id}'"
    if training.state == DONE and training.version is not None:
        figures = session.ledger.query(get_model, training.version).metrics
        session.out.print(f"{word} made model {training.version}: {describe(figures)}", soft_wrap=True)
        session.out.print(training.promotion_reason, soft_wrap=True, markup=False)
        told = (
            *describe_maps(figures),
            *left_out_of(session, training.version),
            *doubts_of(session, training.version),
            *occlusion_report_of(session, training.version),
        )
        for line in told:
            session.out.print(line, soft_wrap=True, markup=False)
        return 0
    if not training.has_ended:
        place = f"epoch {training.epoch} of {training.epochs}" if training.epoch else "no epoch done yet"
        owner = [worker for worker in live_workers(session.ledger) if worker.name == training.owner]
        doing, part, of = stage_of(training, (owner[0].activity or "") if owner else "")
        if training.stage in _STAGES and of is not None:
            doing += f" {part} of {of}"
        stage = f"{training.state}, {doing}" if training.stage else training.state
        print_wrapped(session.out, f"{word}: {stage}, {place}{_comma(time_left(training))}")
        return 0
    done = f"after {training.epoch} of {training.epochs} epochs"
    if training.state == LOST:
        text = f"{word} is lost {done}: worker {training.owner} went silent; {again} continues it"
    elif training.state == CANCELLED:
        text = f"{word} was cancelled {done}; {again} continues it"
    else:
        text = f"{word} failed {done}: {training.error}"
    session.err.print(text, soft_wrap=True, markup=False)
    return SOME_FAILED


def left_out_of(session: Session, version: str) -> Iterator[str]:
    """What of its folder the training of a version left out, by reason; nothing where it is gone."""
    training = _record_of(session, version)
    if training is not None:
        yield from describe_left_out(training.get("data", {}), training.get("findings"))


def doubts_of(session: Session, version: str) -> Iterator[str]:
    """What the validation figures of a version do not bear out; nothing where it is gone."""
    training = _record_of(session, version)
    if training is not None:
        for doubt in doubts(training["validation"]):
            yield f"warning: {doubt}"


def _record_of(session: Session, version: str) -> dict[str, Any] | None:
    """How a version was trained; None where it is gone."""
    try:
        model = session.ledger.query(get_model, version)
        return read_metadata(store_of(session.settings).fetch(model.version, model.digest)).training
    except (XraycamError, LedgerError):
        return None


def describe_left_out(data: dict[str, Any], findings: dict[str, Any] | None) -> Iterator[str]:
    """From the record of a training: files left out by reason, marks that match no image."""
    if (said := said_of_earlier(data.get("earlier"))) is not None:
        yield f"warning: {said}"
    reasons = data.get("skipped_by_reason", {})
    if reasons:
        listed = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
        yield f"left out: {counted(sum(reasons.values()), 'file')} ({listed})"
    yield from data.get("passed_over", ())
    if findings is not None:
        yield f"findings: {counted(findings['images'], 'image')} marked by {findings['file']}"
        if findings.get("unmatched"):
            yield f"findings: {counted(findings['unmatched'], 'mark')} in it without an image"


def describe_maps(figures: dict[str, Any]) -> Iterator[str]:
    """What the training found out about the version's maps; nothing where it measured nothing."""
    if "layer" in figures:
        pair = f"{figures['layer']} with {figures['method']}"
        yield f"maps: {pair} is most faithful without blank maps; now default"
    if "repeatability" in figures:
        found = figures["repeatability"]
        yield (
            f"maps of the same images by {found['with']}, served so far: rank correlation "
            f"{found['spearman']:.2f}, structural similarity {found['ssim']:.2f}"
        )


def describe(figures: dict[str, Any]) -> str:
    """The leading figures of a version's metrics in a line."""
    of = f" for {figures['leading']}" if figures.get("leading") else ""
    named = {"auc": "AUC", "sensitivity": f"sensitivity{of}", "specificity": f"specificity{of}"}
    shown = ", ".join(f"{name} {figure_with_interval(figures, key)}" for key, name in named.items())
    text = f"{shown} on the validation part"
    return text + (f", AUC {figures['test_auc']:.3f} on the test folder" if "test_auc" in figures else "")


def _line(epoch: dict[str, Any], epochs: int) -> str:
    def number(name: str) -> str:
        return "-" if epoch.get(name) is None else f"{epoch[name]:.3f}"

    return (
        f"epoch {epoch['epoch']}/{epochs} ({epoch['stage']}): loss {number('loss')}, validation loss "
        f"{number('val_loss')}, AUC {number('val_auc')}, {epoch.get('seconds') or 0:.1f} s"
    )


def _comma(text: str) -> str:
    return f", {text}" if text else ""
