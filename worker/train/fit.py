"""Training: staged, repeatable for the same data, recipe and machine, and able to go on where it stopped."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from worker.errors import XraycamError
from worker.model.network import build_network
from worker.train.checkpoint import Position, load_checkpoint, save_checkpoint
from worker.train.cut import cut_network
from worker.train.dataset import Labelled
from worker.train.evaluate import area_under_curve, log_loss, softmax
from worker.train.learner import Arrays, Learner
from worker.train.recipe import Recipe, Stage
from worker.train.regions import Regions
from worker.train.splitting import Split
from worker.train.start_weights import load_start_weights
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
class Trained:
    """`network` has the weights of the epoch `kept`; `scores` float32 (V, classes) are those of the
    validation images in the order of the split. `started_from` says which weights came first."""

    network: Any
    history: tuple[Epoch, ...]
    kept: int
    scores: Any
    started_from: str


class Trainer:
    """A network with its first weights, ready to be trained on several splits of one dataset.

    What the frozen part makes of the images is computed once and shared by all of them.
    """

    def __init__(
        self,
        dataset: Labelled,
        recipe: Recipe,
        *,
        start_from: str,
        regions: Regions | None = None,
        memory: int = 2_000_000_000,
    ) -> None:
        """Raises StartWeightsError or RecipeError when weights or recipe do not fit."""
        self.dataset, self.recipe = dataset, recipe
        keras.utils.set_random_seed(recipe.seed)
        tf.config.experimental.enable_op_determinism()
        self.network = build_network(
            recipe.preprocessing.size, len(dataset.classes), recipe.head, recipe.alpha
        )
        self.started_from = load_start_weights(self.network, start_from, alpha=recipe.alpha)
        self.regions = regions if recipe.region_loss else None
        layers = recipe.region_layers if self.regions else ()
        self._cut = cut_network(self.network, recipe.frozen_through, layers)
        self._views = Views(dataset, recipe, self._cut.front, memory, self.regions)
        self._first = Learner(self._cut, recipe).weights()

    def fit(
        self,
        split: Split,
        *,
        progress: Callable[[Epoch], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Train from the first weights, or from `checkpoint` if that file exists."""
        learner = Learner(self._cut, self.recipe)
        learner.set_weights(self._first)
        session = _Session(self, learner, split, progress, should_stop, checkpoint)
        session.run()
        with learner.judged(session.sample):
            final = learner.weights() if session.best is None else session.best
        learner.set_weights(final)
        return Trained(
            network=self.network,
            history=tuple(Epoch(**epoch) for epoch in session.position.history),
            kept=session.position.best_epoch if session.best else len(session.position.history),
            scores=learner.scores(session.validation),
            started_from=self.started_from,
        )

    def features(self, indices: tuple[int, ...]) -> Any:
        """What the learning part is fed for the images at `indices` when predicting."""
        return self._views.plain(indices)

    def augmented(self, indices: Any, numbers: Any) -> Any:
        """Features of one batch of augmented views, see `Views.augmented`."""
        return self._views.augmented(indices, numbers)

    def begin_epoch(self, key: int) -> None:
        """See `Views.begin_epoch`."""
        self._views.begin_epoch(key)

    def fingerprint(self, split: Split) -> str:
        """Equal for two trainings only if they would give the same result."""
        digest = hashlib.sha256(self.recipe.model_dump_json().encode())
        digest.update(f"{self.dataset.digest} {split.training} {self.regions is None}".encode())
        for array in self._first:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def fit(
    dataset: Labelled,
    split: Split,
    recipe: Recipe,
    *,
    start_from: str,
    regions: Regions | None = None,
    progress: Callable[[Epoch], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint: Path | None = None,
    memory: int = 2_000_000_000,
) -> Trained:
    """Train one network on one split.

    `progress` is called after each epoch; `should_stop` is asked before each batch and ends the training
    with TrainingStopped. `regions` marks findings, which the network then learns to find beside the class, if
    the recipe says so. `checkpoint` is written after each epoch and, if it exists, gone on from.
    `memory` (bytes) bounds what is kept of the frozen part's output.
    """
    trainer = Trainer(dataset, recipe, start_from=start_from, regions=regions, memory=memory)
    return trainer.fit(split, progress=progress, should_stop=should_stop, checkpoint=checkpoint)


class _Session:
    """One training, epoch by epoch."""

    def __init__(
        self,
        trainer: Trainer,
        learner: Learner,
        split: Split,
        progress: Callable[[Epoch], None],
        should_stop: Callable[[], bool],
        checkpoint: Path | None,
    ) -> None:
        self.trainer, self.learner, self.recipe = trainer, learner, trainer.recipe
        self.training = np.array(split.training)
        labels = np.array(trainer.dataset.labels)
        self.truth = labels[list(split.validation)]
        classes = len(trainer.dataset.classes)
        smoothing = self.recipe.label_smoothing
        self.targets = np.eye(classes, dtype=np.float32)[labels] * (1 - smoothing) + smoothing / classes
        self.weights = _image_weights(labels, self.training, self.recipe.class_weights)
        self.progress, self.should_stop, self.checkpoint = progress, should_stop, checkpoint
        self.fingerprint = trainer.fingerprint(split) if checkpoint else ""
        self.position, self.best = Position(), None
        self.resumed: dict[str, Arrays] | None = None
        if checkpoint and checkpoint.exists():
            self.position, self.resumed = load_checkpoint(checkpoint, self.fingerprint)
            self.best = self.resumed.get("best")
        self.validation = trainer.features(split.validation)
        drawn = np.random.default_rng(self.recipe.seed).permutation(self.training)[: self.recipe.settle_on]
        self.sample = trainer.features(tuple(sorted(drawn))) if len(drawn) else None
        self.batches = max(1, -(-len(self.training) // self.recipe.batch))

    best: Arrays | None

    def run(self) -> None:
        """All stages from where the training stands."""
        for number in range(self.position.stage, len(self.recipe.stages)):
            stage = self.recipe.stages[number]
            self.learner.begin_stage(stage, self.batches)
            if self.resumed is not None:
                self.learner.restore(self.resumed, same_stage=self.position.epoch > 0)
                self.resumed = None
            self._run_stage(number, stage)

    def _run_stage(self, number: int, stage: Stage) -> None:
        for epoch in range(self.position.epoch, stage.epochs):
            started = time.monotonic()
            loss = self._learn_epoch(number, epoch)
            self._record(stage, loss, started)
            patient = not self.recipe.patience or self.position.since_best < self.recipe.patience
            last = epoch + 1 == stage.epochs or not patient
            self.position.stage, self.position.epoch = (number + 1, 0) if last else (number, epoch + 1)
            self._save()
            self.progress(Epoch(**self.position.history[-1]))
            if last:
                return

    def _learn_epoch(self, number: int, epoch: int) -> float:
        rng = np.random.default_rng((self.recipe.seed, number, epoch))
        key = int(rng.integers(2**31))
        self.learner.begin_epoch(key)
        self.trainer.begin_epoch(key)
        done = len(self.position.history)
        losses = []
        for indices in np.array_split(rng.permutation(self.training), self.batches):
            if self.should_stop():
                raise TrainingStopped(f"stopped in epoch {done + 1}, as asked")
            views = self.recipe.views
            numbers = rng.integers(0, views, len(indices)) if views else np.full(len(indices), done)
            features, areas = self.trainer.augmented(indices, numbers)
            losses.append(self.learner.learn(features, self.targets[indices], self.weights[indices], areas))
        return float(np.mean(losses))

    def _record(self, stage: Stage, loss: float, started: float) -> None:
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
                val_auc=area_under_curve(self.truth, probabilities),
                val_accuracy=float((probabilities.argmax(1) == self.truth).mean()),
                seconds=time.monotonic() - started,
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
        save_checkpoint(self.checkpoint, self.fingerprint, self.position, arrays)


def _image_weights(labels: Any, training: Any, balanced: bool) -> Any:
    """A weight for each image such that each class weighs the same in training: float32 (N,), mean 1."""
    counts = Counter(int(label) for label in labels[training])
    if not balanced:
        return np.ones(len(labels), np.float32)
    even = len(training) / len(counts)
    return np.array(
        [even / counts[int(label)] if counts[int(label)] else 0.0 for label in labels], np.float32
    )
