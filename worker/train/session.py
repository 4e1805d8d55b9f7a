"""The epochs of one training."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worker.errors import XraycamError
from worker.train.checkpoint import Position, load_checkpoint, save_checkpoint
from worker.train.dataset import Split
from worker.train.learner import Arrays, Learner
from worker.train.metrics import log_loss, roc_auc, softmax
from worker.train.recipe import Recipe, Stage
from worker.train.views import Views


class TrainingStopped(XraycamError):
    """Raised by `fit` when `should_stop` said so. The checkpoint, if any, holds the last whole epoch."""


@dataclass(frozen=True)
class Epoch:
    """How a training stands after one epoch, with the weights that would be kept."""

    stage: str
    epoch: int
    epochs: int
    loss: float
    val_loss: float
    val_auc: float
    val_accuracy: float
    seconds: float


@dataclass(frozen=True)
class Supply:
    """What a training is fed: `labels` (N,) of all images of a dataset of `classes` classes, and `views`."""

    labels: Any
    classes: int
    views: Views


class Session:
    """One training, epoch by epoch: `learner` is fed from `supply` and judged on the validation part."""

    def __init__(
        self,
        recipe: Recipe,
        learner: Learner,
        supply: Supply,
        split: Split,
        *,
        progress: Callable[[Epoch], None],
        should_stop: Callable[[], bool],
        checkpoint: Path | None,
        fingerprint: str,
    ) -> None:
        self.learner, self.recipe, self.views = learner, recipe, supply.views
        self.training = np.array(split.training)
        self.truth = supply.labels[list(split.validation)]
        smoothing, classes = recipe.label_smoothing, supply.classes
        one_hot = np.eye(classes, dtype=np.float32)[supply.labels]
        self.targets = one_hot * (1 - smoothing) + smoothing / classes
        self.weights = _image_weights(supply.labels, self.training, recipe.class_weights)
        self.progress, self.should_stop = progress, should_stop
        self.checkpoint, self.fingerprint = checkpoint, fingerprint
        self.position = Position()
        self.best: Arrays | None = None
        self.shared: Arrays | None = None
        self.finished: list[Arrays] = []
        self.resumed: dict[str, Arrays] | None = None
        if checkpoint and checkpoint.exists():
            self.position, self.resumed = load_checkpoint(checkpoint, self.fingerprint)
            self.best, self.shared = self.resumed.get("best"), self.resumed.get("shared")
            self.finished = [self.resumed[f"run {run}"] for run in range(self.position.run)]
        self.validation = supply.views.plain(split.validation)
        drawn = np.random.default_rng(recipe.seed).permutation(self.training)[: recipe.settle_on]
        self.sample = supply.views.plain(sorted(drawn)) if len(drawn) else None
        self.batches = max(1, -(-len(self.training) // recipe.batch))

    def run(self) -> Arrays:
        """All runs and stages from where the training stands; the weights to keep."""
        if self.resumed is not None and self.position.epoch == 0:
            self.learner.restore(self.resumed, same_stage=False)
            self.resumed = None
        while self.position.run < self.recipe.runs:
            for number in range(self.position.stage, len(self.recipe.stages)):
                if number == self.recipe.head_stages and self.shared is None:
                    self.shared = self.learner.weights()
                self.learner.begin_stage(self.recipe.stages[number], self.batches)
                if self.resumed is not None:
                    self.learner.restore(self.resumed, same_stage=True)
                    self.resumed = None
                self._run_stage(number, self.recipe.stages[number])
            self._finish_run()
        if len(self.finished) == 1:
            return self.finished[0]
        self.learner.begin([np.mean(same, axis=0) for same in zip(*self.finished, strict=True)])
        with self.learner.judged(self.sample):
            return self.learner.weights()

    def _finish_run(self) -> None:
        if self.best is None:
            with self.learner.judged(self.sample):
                self.best = self.learner.weights()
        self.finished.append(self.best)
        self.best = None
        position = self.position
        position.run, position.stage, position.epoch = position.run + 1, self.recipe.head_stages, 0
        position.best, position.since_best = None, 0
        if self.shared is not None and position.run < self.recipe.runs:
            self.learner.begin(self.shared)
        self._save()

    def _run_stage(self, number: int, stage: Stage) -> None:
        for epoch in range(self.position.epoch, stage.epochs):
            started = time.monotonic()
            loss = self._learn_epoch(number, epoch)
            self._record(stage, loss, time.monotonic() - started)
            patient = not self.recipe.patience or self.position.since_best < self.recipe.patience
            last = epoch + 1 == stage.epochs or not patient
            self.position.stage, self.position.epoch = (number + 1, 0) if last else (number, epoch + 1)
            if last:
                self.position.since_best = 0
            self._save()
            self.progress(Epoch(**self.position.history[-1]))
            if last:
                return

    def _learn_epoch(self, number: int, epoch: int) -> float:
        further = [self.position.run] if self.position.run else []
        rng = np.random.default_rng((self.recipe.seed, number, epoch, *further))
        key = int(rng.integers(2**31))
        self.learner.begin_epoch(key)
        self.views.begin_epoch(key)
        done, views = len(self.position.history), self.recipe.views
        batches = [
            (indices, rng.integers(0, views, len(indices)) if views else np.full(len(indices), done))
            for indices in np.array_split(rng.permutation(self.training), self.batches)
        ]
        losses = []
        for indices, (features, areas) in _one_ahead(self.views.augmented, batches):
            if self.should_stop():
                raise TrainingStopped(f"stopped in epoch {done + 1}, as asked")
            losses.append(self.learner.learn(features, self.targets[indices], self.weights[indices], areas))
        return float(np.mean(losses))

    def _record(self, stage: Stage, loss: float, seconds: float) -> None:
        """Judge the weights on the validation part and remember them if they are the best."""
        position = self.position
        with self.learner.judged(self.sample):
            scores = self.learner.scores(self.validation)
            probabilities = softmax(scores)
            epoch = Epoch(
                stage="head" if stage.head_only else "network",
                epoch=len(position.history) + 1,
                epochs=self.recipe.epochs,
                loss=loss,
                val_loss=log_loss(self.truth, probabilities),
                val_auc=roc_auc(self.truth, probabilities),
                val_accuracy=float((probabilities.argmax(1) == self.truth).mean()),
                seconds=seconds,
            )
            position.history.append(asdict(epoch))
            if self.recipe.keep != "last":
                value = float(getattr(epoch, self.recipe.keep))
                value = -value if self.recipe.keep == "val_loss" else value
                position.since_best += 1
                if position.best is None or value > position.best:
                    position.best, position.best_epoch, position.since_best = value, epoch.epoch, 0
                    self.best = self.learner.weights()

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        arrays = self.learner.state()
        if self.best is not None:
            arrays["best"] = self.best
        if self.shared is not None:
            arrays["shared"] = self.shared
        arrays.update({f"run {run}": weights for run, weights in enumerate(self.finished)})
        save_checkpoint(self.checkpoint, self.fingerprint, self.position, arrays)


def _one_ahead(make: Callable[..., Any], batches: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """The indices of each batch with what is made of it; the next one is made while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for indices, numbers in batches:
            coming = indices, pool.submit(make, indices, numbers)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = coming
        if waiting is not None:
            yield waiting[0], waiting[1].result()


def _image_weights(labels: Any, training: Any, balanced: bool) -> Any:
    """A weight for each image such that each class weighs the same in training: float32 (N,), mean 1."""
    counts = Counter(int(label) for label in labels[training])
    if not balanced:
        return np.ones(len(labels), np.float32)
    even = len(training) / len(counts)
    return np.array(
        [even / counts[int(label)] if counts[int(label)] else 0.0 for label in labels], np.float32
    )
