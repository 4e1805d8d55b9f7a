"""Layers of our own in a rebuilt network."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class LayerScale(keras.layers.Layer):
    """Each channel times a weight, as `keras.applications` has it in ConvNeXt."""

    def __init__(self, projection_dim: int, **options: Any) -> None:
        super().__init__(**options)
        self.projection_dim = projection_dim

    def build(self, _shape: Any) -> None:
        self.gamma = self.add_weight(shape=(self.projection_dim,), initializer="ones", name="gamma")

    def call(self, tensor: Any) -> Any:
        return tensor * self.gamma

    def compute_output_shape(self, shape: Any) -> Any:
        return shape


class Normalization(keras.layers.Normalization):
    """Keras's own works with copies of its mean and variance, taken when it is built or loads its weights by
    itself: given weights otherwise it keeps 0 and 1. This takes those it has when it is called."""

    def call(self, tensor: Any) -> Any:
        self.finalize_state()
        return super().call(tensor)


class FirstChannel(keras.layers.Layer):
    """(B, h, w, 3) of three equal channels to (B, h, w, 1), for a network that takes gray images."""

    def call(self, tensor: Any) -> Any:
        return tensor[..., :1]

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-1], 1)


class TwoScores(keras.layers.Layer):
    """(B, 1), the score s of one sigmoid, to (B, 2): [-s/2, s/2], of the same probabilities by softmax."""

    def call(self, tensor: Any) -> Any:
        return tf.concat([tensor * -0.5, tensor * 0.5], axis=-1)

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-1], 2)
