"""Callbacks of `keras.Model.fit`: stop when asked, evaluate, keep the best epoch, write the checkpoint.

`keras.callbacks.BackupAndRestore` does not hold enough to resume to the same result: it stores weights,
optimizer and epoch of one `fit`, but not the stage, the best weights so far, the epochs since (EarlyStopping
starts anew), the history, or whose training it is; and it writes weights and epoch into two files, in place.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from worker.errors import XraycamError
from worker.train.feature_cache import Features
from worker.train.findings_metrics import findings_accuracy
from worker.train.metrics import log_loss, probabilities_from, roc_auc
from worker.train.recipe import Recipe
from worker.train.split_network import SplitNetwork

VALIDATION = ("val_loss", "val_auc", "val_accuracy")
Logs = dict[str, Any] | None
Arrays = list[NDArray[Any]]


class TrainingStopped(XraycamError):
    """Raised by `fit` when `should_stop` said so. The checkpoint, if any, holds the last whole epoch."""


class CheckpointError(XraycamError):
    """Raised when a checkpoint is damaged or belongs to another training."""


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


@dataclass
class TrainingState:
    """The next stage, and the next epoch of it, counted from 0; the best epoch so far, counted from 1, its
    value of the monitored figure, and the epochs since; and all epochs, as `Epoch` in JSON's types."""

    stage: int = 0
    epoch: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = 0
    epochs_since_best: int = 0


@dataclass(frozen=True)
class EvaluationData:
    """Features and labels (V,), or findings (V, classes), of the validation part;
    `recalibration`: of training images."""

    features: Features
    labels: NDArray[Any]
    recalibration: Features | None


class StopWhenAsked(keras.callbacks.Callback):
    """Ends `fit` with TrainingStopped before the next batch once `should_stop` says so."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        super().__init__()
        self._should_stop = should_stop
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch = epoch + 1

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        if self._should_stop():
            raise TrainingStopped(f"stopped in epoch {self._epoch}, as asked")


class EvaluateEpoch(keras.callbacks.Callback):
    """Gives the model its evaluation weights at an epoch's end, and adds what they predict to the logs.

    Evaluation weights are the averaged ones, if the recipe averages, with batch norms measured anew.
    Callbacks further on see them; the next epoch starts from the weights as they were trained.
    (`SwapEMAWeights` swaps by adding and subtracting, which changes last digits; and where early stopping
    ends a `fit` while they are swapped, Keras takes the trained weights for the averaged ones.)
    """

    def __init__(self, split: SplitNetwork, recipe: Recipe, data: EvaluationData, trained: Arrays) -> None:
        """`trained`: the trained weights of a `fit` that is resumed, else empty."""
        super().__init__()
        self.trained = trained
        self._split, self._recipe, self._data = split, recipe, data
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if self.trained:
            for variable, value in zip(self.model.trainable_variables, self.trained, strict=True):
                variable.assign(value)
        self.trained = []
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        assert logs is not None
        logs["seconds"] = time.monotonic() - self._started
        variables = self.model.trainable_variables
        if self._recipe.ema_decay:
            self.trained = [variable.numpy() for variable in variables]
            self.model.optimizer.finalize_variable_values(variables)  # sets them to their averages
        if self._data.recalibration is not None:
            self._split.recalibrate_batch_norm(self._data.recalibration, self._recipe.batch)
        logs.update(validation_figures(self._data.labels, self.scores()))

    def on_train_end(self, logs: Logs = None) -> None:
        self.trained = []

    def scores(self) -> NDArray[np.float32]:
        """Scores (V, classes) of the validation part with the weights as they are."""
        features, batch = self._data.features, self._recipe.batch
        found: NDArray[np.float32] = self._split.classifier.predict(features, batch_size=batch, verbose=0)
        return found


class KeepBest(keras.callbacks.EarlyStopping):
    """Keras's early stopping over all stages of a training, whose counts are those of `state`."""

    def __init__(self, recipe: Recipe, state: TrainingState, best_weights: Arrays | None) -> None:
        super().__init__(
            monitor=recipe.monitor,
            mode="min" if recipe.monitor == "val_loss" else "max",
            patience=recipe.patience or recipe.epochs + 1,
            restore_best_weights=True,
        )
        self._state, self._earlier = state, best_weights

    def on_train_begin(self, logs: Logs = None) -> None:
        super().on_train_begin(logs)
        state = self._state
        self.best, self.best_epoch, self.wait = state.best, state.best_epoch - 1, state.epochs_since_best
        self.best_weights = self._earlier

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        super().on_epoch_end(epoch, logs)
        self._earlier, state = self.best_weights, self._state
        state.best, state.best_epoch, state.epochs_since_best = self.best, self.best_epoch + 1, self.wait


class RecordEpoch(keras.callbacks.Callback):
    """Notes each epoch in `state`, writes the checkpoint, tells `progress`. Comes last of the callbacks."""

    def __init__(
        self,
        recipe: Recipe,
        state: TrainingState,
        evaluate: EvaluateEpoch,
        best: KeepBest | None,
        checkpoint: tuple[Path, str] | None,
        progress: Callable[[Epoch], None],
    ) -> None:
        """`checkpoint`: the file and the training's fingerprint."""
        super().__init__()
        self._recipe, self._state, self._checkpoint, self._progress = recipe, state, checkpoint, progress
        self._evaluate, self._best = evaluate, best

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        assert logs is not None
        state, stage = self._state, self._recipe.stages[self._state.stage]
        figures = {name: float(logs[name]) for name in ("loss", *VALIDATION, "seconds")}
        kind = "head" if stage.head_only else "network"
        done = Epoch(stage=kind, epoch=epoch + 1, epochs=self._recipe.epochs, **figures)
        state.history.append(asdict(done))
        state.epoch += 1
        if state.epoch == stage.epochs or self.model.stop_training:
            state.stage, state.epoch, state.epochs_since_best = state.stage + 1, 0, 0
        if self._checkpoint is not None:
            save_checkpoint(*self._checkpoint, state, self._arrays())
        self._progress(done)

    def _arrays(self) -> dict[str, Arrays]:
        """All that the next epoch depends on; between two stages no optimizer, since each has its own."""
        model = self.model
        arrays = {"variables": [variable.numpy() for variable in model.variables]}
        if self._best is not None and self._best.best_weights is not None:
            arrays["best"] = self._best.best_weights
        if self._state.epoch:
            arrays["trained"] = self._evaluate.trained
            arrays["optimizer"] = [variable.numpy() for variable in model.optimizer.variables]
        return arrays


def validation_figures(labels: NDArray[Any], scores: NDArray[np.float32]) -> dict[str, float]:
    """Log loss, ROC AUC and accuracy of `scores` (V, classes); NaN where a score is not a finite number."""
    if not np.isfinite(scores).all():
        return dict.fromkeys(VALIDATION, float("nan"))
    of_findings = labels.ndim == 2
    probabilities = probabilities_from(scores, "sigmoid" if of_findings else "softmax")
    right = findings_accuracy if of_findings else _accuracy
    return {
        "val_loss": log_loss(labels, probabilities),
        "val_auc": roc_auc(labels, probabilities),
        "val_accuracy": right(labels, probabilities),
    }


def _accuracy(labels: NDArray[Any], probabilities: NDArray[np.float64]) -> float:
    return float((probabilities.argmax(1) == labels).mean())


def save_checkpoint(file: Path, fingerprint: str, state: TrainingState, arrays: dict[str, Arrays]) -> None:
    """Write `file` whole or not at all. `fingerprint` names the training: data, split, recipe, weights."""
    named = {
        f"{group}/{index}": np.asarray(array, order="C")
        for group, group_arrays in arrays.items()
        for index, array in enumerate(group_arrays)
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    half_done = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        metadata = {"fingerprint": fingerprint, "state": json.dumps(asdict(state))}
        save_file(named, half_done, metadata=metadata)
        half_done.replace(file)
    finally:
        half_done.unlink(missing_ok=True)


def load_checkpoint(file: Path, fingerprint: str) -> tuple[TrainingState, dict[str, Arrays]]:
    """The reverse of `save_checkpoint`. Raises CheckpointError if it is not of this training."""
    try:
        with safe_open(file, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            names = sorted(stored.keys(), key=lambda name: int(name.rsplit("/", 1)[1]))
            arrays: dict[str, Arrays] = {}
            for name in names:
                arrays.setdefault(name.rsplit("/", 1)[0], []).append(stored.get_tensor(name))
        state = TrainingState(**json.loads(metadata["state"]))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{file} is not a checkpoint that can be read ({error}); delete it to start anew"
        ) from error
    if metadata.get("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{file} belongs to a training with other data, recipe or first weights; "
            "give these again, or delete it to start anew"
        )
    return state, arrays


def epochs_in(file: Path) -> list[dict[str, Any]]:
    """The history that a checkpoint holds; empty if it cannot be read, which `load_checkpoint` will say."""
    try:
        with safe_open(file, framework="numpy") as stored:
            state = json.loads((stored.metadata() or {})["state"])
    except (SafetensorError, OSError, KeyError, ValueError):
        return []
    return list(state["history"])
