"""The network: MobileNetV2 with the reference head, every layer at the top level of one Keras model."""

from __future__ import annotations

from typing import Any

import keras

from worker.model.description import Head, Layer

SCORE_LAYER = "score"


def build_network(size: int, classes: int, head: Head, alpha: float = 1.0) -> Any:
    """A `keras.Model` with fresh weights.

    Input: float32 (batch, size, size, 3), scaled as the model's preprocessing says.
    Output: float32 (batch, classes), the scores before the softmax ("logits"): what class activation
    maps are the gradient of, since the softmax of a confident image has a gradient of zero.
    """
    base = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=alpha, include_top=False, weights=None
    )
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(base.output)
    x = keras.layers.BatchNormalization(name="head_pool_BN")(x)
    x = keras.layers.Dropout(head.dropout, name="head_dropout")(x)
    x = keras.layers.Dense(head.units, kernel_regularizer=keras.regularizers.L2(head.l2), name="head_dense")(
        x
    )
    x = keras.layers.BatchNormalization(name="head_dense_BN")(x)
    x = keras.layers.ReLU(name="head_relu")(x)
    scores = keras.layers.Dense(classes, name=SCORE_LAYER)(x)
    return keras.Model(base.input, scores, name="mobilenetv2")


def spatial_layers(network: Any) -> tuple[Layer, ...]:
    """The layers that put out a map (height, width, channels), from input to output."""
    found = []
    for layer in network.layers:
        shape = layer.output.shape
        if len(shape) != 4 or isinstance(layer, keras.layers.InputLayer):
            continue
        _, height, width, channels = shape
        ends_a_block = layer.name.endswith(("_add", "_project_BN")) or layer.name == "out_relu"
        suits = ends_a_block and min(height, width) >= 4
        found.append(Layer(name=layer.name, height=height, width=width, channels=channels, suits_cam=suits))
    return tuple(found)
