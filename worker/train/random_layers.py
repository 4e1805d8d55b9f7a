"""Keras's random layers as augmentation, repeatable epoch by epoch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from worker.train.recipe import KerasAugmentation


class RandomLayers:
    """The layers of a `KerasAugmentation`, applied one after the other."""

    def __init__(self, settings: KerasAugmentation, seed: int) -> None:
        self._layers = [
            keras.layers.RandomFlip(settings.flip, seed=seed),
            keras.layers.RandomRotation(settings.rotation, seed=seed),
            keras.layers.RandomContrast(settings.contrast, seed=seed),
            keras.layers.RandomZoom(*settings.zoom, seed=seed),
            keras.layers.RandomTranslation(*settings.translation, seed=seed),
        ]
        self._compiled = tf.function(self._run, reduce_retracing=True)

    def __call__(self, pixels: Any) -> Any:
        """`pixels` (B, size, size) in 0..255 changed at random: float32, the same shape and range."""
        return self._compiled(tf.cast(pixels, tf.float32)).numpy()

    def begin_epoch(self, key: int) -> None:
        """Set the random state, so that an epoch does not depend on those before it."""
        for number, layer in enumerate(self._layers):
            layer.generator.state.assign(np.array([key, number], np.uint32))

    def _run(self, pixels: Any) -> Any:
        images = pixels[..., tf.newaxis]
        for layer in self._layers:
            images = layer(images, training=True)
        return images[..., 0]
