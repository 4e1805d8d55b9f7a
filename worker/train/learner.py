"""One step of learning, the moving average of the weights, and prediction with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from worker.explain.forward import scale
from worker.train.cut import HEAD, Cut
from worker.train.recipe import Recipe, Stage

Arrays = list[np.ndarray[Any, Any]]


class Learner:
    """The learning part of a network, its optimizer and the average of its weights over past steps.

    It is fed features, see `Views`. Not for use by several threads at once.
    """

    def __init__(self, cut: Cut, recipe: Recipe) -> None:
        self._recipe, self._from_pixels = recipe, cut.front is None
        self._tail, self._learning = cut.tail, cut.learning
        self._until_pool = cut.pooling
        self._weights = [v for v in cut.learning.variables if "seed_generator" not in v.path]
        self._generators = [v for v in cut.learning.variables if "seed_generator" in v.path]
        self._averages = [tf.Variable(v.value, trainable=False) for v in self._weights]
        self._steps = tf.Variable(0.0, trainable=False)
        self._optimizer: Any = None
        self._step: Any = None
        self._pool = tf.function(self._pooled, reduce_retracing=True)
        self._predict = tf.function(self._scores, reduce_retracing=True)
        for layer in cut.learning.layers:
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = layer.name.startswith(HEAD) or not is_norm or recipe.batch_norm == "released"

    def begin(self, weights: Arrays) -> None:
        """Start a training from these weights, as if nothing had been learned before."""
        self.set_weights(weights)
        for average, value in zip(self._averages, weights, strict=True):
            average.assign(value)
        self._steps.assign(0.0)

    def begin_stage(self, stage: Stage, batches: int) -> None:
        """Start a stage of `batches` steps an epoch with a fresh optimizer."""
        learning = [
            v for v in self._learning.trainable_variables if not stage.head_only or v.path.startswith(HEAD)
        ]
        self._optimizer = _optimizer(self._recipe, stage, batches)
        self._optimizer.build(learning)
        # A function of its own for each stage: a compiled one goes on using the optimizer it was traced with.
        self._step = tf.function(partial(self._learn, learning), reduce_retracing=True)

    def begin_epoch(self, key: int) -> None:
        """Make dropout in this epoch depend on `key` alone, not on the epochs before it."""
        for number, generator in enumerate(self._generators):
            generator.assign(np.array([key, number], np.uint32))

    def learn(self, features: Any, targets: Any, weights: Any, areas: Any = None) -> float:
        """One step. `targets` float32 (B, classes), `weights` float32 (B,), `areas` float32 (B, h, w): the
        share of each cell that is marked, negative where nobody looked. The loss before the step."""
        areas = () if areas is None else (tf.constant(areas),)
        return float(self._step(features, tf.constant(targets), tf.constant(weights), areas))

    def scores(self, features: Any) -> Any:
        """Scores of any number of images with the weights as they are now: float32 (N, classes)."""
        size = self._recipe.batch
        parts = [features[start : start + size] for start in range(0, len(features), size)]
        return np.concatenate([self._predict(part).numpy() for part in parts])

    @contextmanager
    def judged(self, features: Any) -> Iterator[None]:
        """Within, the network has the weights that would be kept now: averaged if the recipe averages, and
        the head's batch norms measured on `features` of training images if it settles.

        Running averages lag behind weights that move, most of all behind averaged ones (stochastic weight
        averaging measures them anew too, arXiv 1803.05407); and dropout is at work while they are taken.
        """
        now = self.weights()
        if self._recipe.averaging:
            self.set_weights([average.numpy() for average in self._averages])
        if self._recipe.settle_on:
            self._settle(features)
        try:
            yield
        finally:
            self.set_weights(now)

    def weights(self) -> Arrays:
        """Copies of all weights of the learning part."""
        return [v.value.numpy() for v in self._weights]

    def set_weights(self, values: Arrays) -> None:
        """The reverse of `weights`."""
        for variable, value in zip(self._weights, values, strict=True):
            variable.assign(value)

    def state(self) -> dict[str, Arrays]:
        """All that the next step depends on."""
        return {
            "weights": self.weights(),
            "averages": [average.numpy() for average in self._averages],
            "optimizer": [np.asarray(v.value) for v in self._optimizer.variables],
            "steps": [np.asarray(self._steps)],
        }

    def restore(self, state: dict[str, Arrays], *, same_stage: bool) -> None:
        """The reverse of `state`. `same_stage`: the stage begun is that of `state`, so its optimizer too."""
        self.set_weights(state["weights"])
        pairs = [*zip(self._averages, state["averages"], strict=True), (self._steps, state["steps"][0])]
        if same_stage:
            pairs += zip(self._optimizer.variables, state["optimizer"], strict=True)
        for variable, value in pairs:
            variable.assign(value)

    def _settle(self, features: Any) -> None:
        size = self._recipe.batch
        parts = [features[start : start + size] for start in range(0, len(features), size)]
        pooled = np.concatenate([self._pool(part).numpy() for part in parts])
        norm = self._tail.get_layer("head_pool_BN")
        _measure(norm, pooled)
        _measure(
            self._tail.get_layer("head_dense_BN"), self._tail.get_layer("head_dense")(norm(pooled)).numpy()
        )

    def _pooled(self, features: Any) -> Any:
        return self._until_pool(self._input(features), training=False)

    def _input(self, features: Any) -> Any:
        if self._from_pixels:
            return scale(features, self._recipe.preprocessing)
        return tf.cast(features, tf.float32)

    def _scores(self, features: Any, training: bool = False) -> Any:
        return self._tail(self._input(features), training=training)

    def _learn(self, learning: list[Any], features: Any, targets: Any, weights: Any, areas: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = self._learning(self._input(features), training=True)
            scores, *maps = outputs if isinstance(outputs, list) else [outputs]
            cross_entropy = tf.nn.softmax_cross_entropy_with_logits(targets, scores)
            loss = tf.reduce_mean(weights * cross_entropy) + tf.add_n(self._learning.losses)
            for area in areas:
                loss += sum(self._recipe.region_loss * _region_loss(logits, area) for logits in maps)
        gradients = tape.gradient(loss, [v.value for v in learning])
        if self._recipe.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self._recipe.clip_norm)
        self._optimizer.apply(gradients, learning)
        if self._recipe.averaging:
            # Short at first, so that the weights from before the training do not linger.
            decay = tf.minimum(self._recipe.averaging, (1.0 + self._steps) / (10.0 + self._steps))
            for average, variable in zip(self._averages, self._weights, strict=True):
                average.assign(decay * average + (1.0 - decay) * variable.value)
            self._steps.assign_add(1.0)
        return loss


def _optimizer(recipe: Recipe, stage: Stage, batches: int) -> Any:
    schedules = keras.optimizers.schedules
    total = stage.epochs * batches
    rate: Any = stage.rate
    if stage.schedule == "cosine":
        rising = int(stage.warmup * total) + 1
        rate = schedules.CosineDecay(0.0, total, warmup_target=stage.rate, warmup_steps=rising)
    elif stage.schedule == "exponential":
        rate = schedules.ExponentialDecay(stage.rate, batches, stage.decay, staircase=True)
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _region_loss(logits: Any, areas: Any) -> Any:
    """Cross-entropy of a map of logits (B, h, w, 1) against the share of each cell that is marked, where
    half a cell counts as all of it. Scaled so that a weight of 1 is of the order of the loss of the class."""
    wanted = tf.image.resize(areas[..., tf.newaxis], logits.shape[1:3], method="area")
    known = tf.cast(wanted >= 0, tf.float32)
    loss = tf.nn.sigmoid_cross_entropy_with_logits(tf.clip_by_value(2.0 * wanted, 0.0, 1.0), logits)
    return 5.0 * tf.reduce_mean(known * loss)


def _measure(norm: Any, values: Any) -> None:
    norm.moving_mean.assign(values.mean(0))
    norm.moving_variance.assign(values.var(0))
