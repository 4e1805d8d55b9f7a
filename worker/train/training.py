"""Training with `keras.Model.fit`: staged, resumable, repeatable for the same data, recipe and machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_sample_weight

from worker.model.architectures import ARCHITECTURES
from worker.model.network import SCORE_LAYER, build_network
from worker.train.annotations import FindingAnnotations
from worker.train.dataset import LabelledDataset
from worker.train.earlier_training import EarlierTraining
from worker.train.feature_cache import FeatureCache, Features
from worker.train.finding_loss import UNKNOWN, finding_weights, findings_loss, remove_prior_shift
from worker.train.recipe import ChestAugmentation, Recipe, Stage
from worker.train.split_network import LOCALISATION, load_initial_weights, split_at_layer
from worker.train.splits import Split
from worker.train.training_callbacks import (
    Arrays,
    Epoch,
    EvaluateEpoch,
    EvaluationData,
    KeepBest,
    RecordEpoch,
    StopWhenAsked,
    TrainingState,
    TrainingStopped,
    load_checkpoint,
)

__all__ = ["Epoch", "Trainer", "TrainingResult", "TrainingStopped", "fit"]

ByOutput = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class TrainingResult:
    """`network` has the weights of `best_epoch`; `scores` float32 (V, classes) are those of the validation
    images in the order of the split. `started_from` says which weights came first, `earlier`
    what a version among them had learned from."""

    network: Any
    history: tuple[Epoch, ...]
    best_epoch: int
    scores: NDArray[np.float32]
    started_from: str
    earlier: EarlierTraining | None = None


class Trainer:
    """A network with its initial weights, ready to be trained on several splits of one dataset.

    What the frozen part makes of the images is computed once and shared by all of them.
    """

    def __init__(
        self,
        dataset: LabelledDataset,
        recipe: Recipe,
        *,
        init_weights: str,
        regions: FindingAnnotations | None = None,
        memory: int = 2_000_000_000,
    ) -> None:
        """Raises InitialWeightsError or RecipeError when weights or recipe do not fit."""
        self.dataset, self.recipe = dataset, recipe
        keras.utils.set_random_seed(recipe.seed)
        tf.config.experimental.enable_op_determinism()
        self.network = build_network(
            recipe.preprocessing.size, len(dataset.classes), recipe.head, recipe.alpha, recipe.architecture
        )
        self.started_from = load_initial_weights(
            self.network, init_weights, ARCHITECTURES[recipe.architecture], alpha=recipe.alpha
        )
        # Keras's random layers do not tell where they move a marked area.
        moves_areas = isinstance(recipe.augmentation, ChestAugmentation)
        self.regions = regions if recipe.localisation_loss_weight and moves_areas else None
        layers = recipe.localisation_layers if self.regions else ()
        self._split = split_at_layer(self.network, recipe, layers)
        self._cache = FeatureCache(dataset, recipe, self._split.frozen, memory, self.regions)
        self._variables = list(self._split.trainable.variables)
        for number, variable in enumerate(self._variables):
            if "seed_generator" in variable.path:
                variable.assign(np.array([recipe.seed, number], np.uint32))
        self._initial = [variable.numpy() for variable in self._variables]

    def fit(
        self,
        split: Split,
        *,
        progress: Callable[[Epoch], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
        checkpoint: Path | None = None,
    ) -> TrainingResult:
        """Train from the initial weights, or from `checkpoint` if that file exists."""
        recipe, model = self.recipe, self._split.trainable
        state, arrays = TrainingState(), {"variables": self._initial}
        fingerprint = self.fingerprint(split)
        if checkpoint is not None and checkpoint.exists():
            state, arrays = load_checkpoint(checkpoint, fingerprint)
        _assign(self._variables, arrays["variables"])
        if not state.epoch and "best" in arrays:  # what the stage before ended with
            model.set_weights(arrays["best"])
        evaluate = EvaluateEpoch(self._split, recipe, self._evaluation_data(split), arrays.get("trained", []))
        best = None if recipe.monitor == "last" else KeepBest(recipe, state, arrays.get("best"))
        file = None if checkpoint is None else (checkpoint, fingerprint)
        record = RecordEpoch(recipe, state, evaluate, best, file, progress)
        callbacks = [StopWhenAsked(should_stop), evaluate, *([best] if best else []), record]
        while state.stage < len(recipe.stages):
            stage, done = recipe.stages[state.stage], len(state.history)
            batches = TrainingBatches(self.dataset, split.training, recipe, self._cache, model, done)
            self._compile(stage, len(batches), split)
            # Left to `fit`, its variables would be made while the step is traced, and the step traced twice.
            model.optimizer.build(model.trainable_variables)
            if state.epoch:
                _assign(model.optimizer.variables, arrays["optimizer"])
            until = done - state.epoch + stage.epochs
            model.fit(
                batches, initial_epoch=done, epochs=until, callbacks=callbacks, shuffle=False, verbose=0
            )
        if recipe.class_weights:
            remove_prior_shift(self.network, self.dataset.truth(split.training))
        return TrainingResult(
            network=self.network,
            history=tuple(Epoch(**epoch) for epoch in state.history),
            best_epoch=state.best_epoch or len(state.history),
            scores=evaluate.scores(),
            started_from=self.started_from,
        )

    def fingerprint(self, split: Split) -> str:
        """Equal for two trainings only if they would give the same result."""
        digest = hashlib.sha256(self.recipe.model_dump_json().encode())
        digest.update(
            f"{self.dataset.digest} {split.training} {self.regions and self.regions.digest}".encode()
        )
        # In their order: the split and the copies go by number, and a file renamed since moves all numbers.
        digest.update(" ".join(self.dataset.sha256).encode())
        for array in self._initial:
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _evaluation_data(self, split: Split) -> EvaluationData:
        rng = np.random.default_rng(self.recipe.seed)
        drawn = rng.permutation(np.array(split.training))[: self.recipe.bn_recalibration_images]
        return EvaluationData(
            features=self._cache.plain(split.validation),
            labels=self.dataset.truth(split.validation),
            recalibration=self._cache.plain(sorted(drawn)) if len(drawn) else None,
        )

    def _compile(self, stage: Stage, batches: int, split: Split) -> None:
        recipe, model = self.recipe, self._split.trainable
        self._split.set_trainable(head_only=stage.head_only, batch_norm=recipe.batch_norm == "released")
        losses: dict[str, Any] = dict.fromkeys(model.output, localisation_loss)
        if self.dataset.findings is None:
            losses[SCORE_LAYER] = keras.losses.CategoricalCrossentropy(
                from_logits=True, label_smoothing=recipe.label_smoothing
            )
        else:
            truth = self.dataset.truth(split.training)
            weights_of = finding_weights(truth) if recipe.class_weights else np.ones((2, truth.shape[1]))
            losses[SCORE_LAYER] = findings_loss(weights_of, recipe.label_smoothing)
        weights = dict.fromkeys(losses, recipe.localisation_loss_weight) | {SCORE_LAYER: 1.0}
        # Compiling with XLA takes longer than it saves on networks and epochs of this size.
        model.compile(_optimizer(recipe, stage, batches), losses, loss_weights=weights, jit_compile=False)


class TrainingBatches(keras.utils.PyDataset):
    """The batches of one epoch after another: augmented copies of the training images, in an order and choice
    that depend on the recipe's seed and the number of the epoch alone."""

    def __init__(
        self,
        dataset: LabelledDataset,
        training: Sequence[int],
        recipe: Recipe,
        cache: FeatureCache,
        model: Any,
        first_epoch: int,
    ) -> None:
        """`model`: whose outputs need targets. `first_epoch`: counted from 0."""
        super().__init__()
        self._recipe, self._cache = recipe, cache
        self._training = np.array(training)
        labels = dataset.truth()
        self._weights = np.ones(len(labels), np.float32)
        if dataset.findings is not None:
            self._targets = np.where(np.isnan(labels), UNKNOWN, labels).astype(np.float32)
        else:
            self._targets = np.eye(len(dataset.classes), dtype=np.float32)[labels]
        if recipe.class_weights and dataset.findings is None:
            self._weights[self._training] = compute_sample_weight("balanced", labels[self._training])
        self._localised = [name for name in model.output if name.startswith(LOCALISATION)]
        self._epoch = first_epoch
        self._draw()

    def __len__(self) -> int:
        return max(1, -(-len(self._training) // self._recipe.batch))

    def __getitem__(self, batch: int) -> tuple[Features, ByOutput, ByOutput]:
        """Features, targets and weights; the batches are of equal size, give or take one image."""
        indices, numbers = self._drawn[batch]
        seed = self._seed + batch
        features, areas = self._cache.augmented(indices, numbers, seed)
        targets, weights = {SCORE_LAYER: self._targets[indices]}, {SCORE_LAYER: self._weights[indices]}
        for name in self._localised:
            assert areas is not None
            targets[name], weights[name] = areas[..., np.newaxis], np.ones(len(indices), np.float32)
        return features, targets, weights

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._draw()

    def _draw(self) -> None:
        rng = np.random.default_rng((self._recipe.seed, self._epoch))
        self._seed, copies = int(rng.integers(2**31)), self._recipe.cached_augmentations
        self._drawn = [
            (indices, rng.integers(0, copies, len(indices)) if copies else np.full(len(indices), self._epoch))
            for indices in np.array_split(rng.permutation(self._training), len(self))
        ]


def fit(
    dataset: LabelledDataset,
    split: Split,
    recipe: Recipe,
    *,
    init_weights: str,
    regions: FindingAnnotations | None = None,
    progress: Callable[[Epoch], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoint: Path | None = None,
    memory: int = 2_000_000_000,
) -> TrainingResult:
    """Train one network on one split.

    `progress` is called after each epoch; `should_stop` is asked before each batch and ends the training with
    TrainingStopped. `regions` marks findings, which the network then learns to find beside the class, if the
    recipe says so. `checkpoint` is written after each epoch; if it exists, the training resumes from it.
    `memory` (bytes) bounds what is kept of the frozen part's output.
    """
    trainer = Trainer(dataset, recipe, init_weights=init_weights, regions=regions, memory=memory)
    return trainer.fit(split, progress=progress, should_stop=should_stop, checkpoint=checkpoint)


def localisation_loss(areas: Any, logits: Any) -> Any:
    """For each image the cross-entropy of a map of logits (B, h, w, 1) against the share of each cell that is
    marked, `areas` (B, H, W, 1), where half a cell counts as all of it and a negative share as not known.
    Scaled so that a weight of 1 is of the order of the loss of the class."""
    wanted = tf.image.resize(areas, logits.shape[1:3], method="area")
    known = tf.cast(wanted >= 0, tf.float32)
    loss = tf.nn.sigmoid_cross_entropy_with_logits(tf.clip_by_value(2.0 * wanted, 0.0, 1.0), logits)
    return 5.0 * tf.reduce_mean(known * loss, axis=(1, 2, 3))


def _optimizer(recipe: Recipe, stage: Stage, batches: int) -> Any:
    schedules = keras.optimizers.schedules
    total = stage.epochs * batches
    rate: Any = stage.learning_rate
    if stage.schedule == "cosine":
        rising = int(stage.warmup * total) + 1
        rate = schedules.CosineDecay(0.0, total, warmup_target=rate, warmup_steps=rising)
    elif stage.schedule == "exponential":
        rate = schedules.ExponentialDecay(rate, batches, stage.decay, staircase=True)
    options: dict[str, Any] = {"global_clipnorm": recipe.clip_norm or None}
    if recipe.ema_decay:
        options |= {"use_ema": True, "ema_momentum": recipe.ema_decay}
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate, **options)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, **options)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _assign(variables: Sequence[Any], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
