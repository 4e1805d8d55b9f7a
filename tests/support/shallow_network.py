"""A stand-in for MobileNetV2: its layers' names and shapes, with a fifth of its operations.

Most of the time of a training of a few images goes into tracing the network; what is tested of trainings
hardly ever depends on its depth.
"""

from __future__ import annotations

from typing import Any

import keras

# Number, channels at full width, stride, and whether the input is added, as in MobileNetV2.
_BLOCKS = (
    (3, 32, 4, False),
    (5, 32, 1, True),
    (6, 64, 2, False),
    (7, 64, 1, True),
    (9, 64, 1, True),
    (10, 96, 1, False),
    (12, 96, 1, True),
    (13, 160, 2, False),
    (14, 160, 1, True),
    (15, 160, 1, True),
    (16, 320, 1, False),
)


def shallow_network(
    input_shape: tuple[int, int, int], include_top: bool, weights: None, alpha: float = 1.0
) -> Any:
    """What `keras.applications.MobileNetV2` takes and gives, with random weights."""
    assert not include_top
    assert weights is None
    pixels = keras.Input(input_shape)
    x = keras.layers.Conv2D(_width(32 * alpha), 3, 2, "same", use_bias=False, name="Conv1")(pixels)
    x = keras.layers.BatchNormalization(momentum=0.999, name="bn_Conv1")(x)
    x = keras.layers.ReLU(6.0, name="Conv1_relu")(x)
    for number, channels, stride, adds in _BLOCKS:
        name, before = f"block_{number}", x
        if adds:
            x = keras.layers.Conv2D(_width(channels * alpha), 1, use_bias=False, name=f"{name}_expand")(x)
            x = keras.layers.ReLU(6.0, name=f"{name}_expand_relu")(x)
        if stride > 1:
            x = keras.layers.AveragePooling2D(stride, name=f"{name}_pool")(x)
        x = keras.layers.Conv2D(_width(channels * alpha), 1, use_bias=False, name=f"{name}_project")(x)
        x = keras.layers.BatchNormalization(momentum=0.999, name=f"{name}_project_BN")(x)
        if adds:
            x = keras.layers.Add(name=f"{name}_add")([before, x])
    x = keras.layers.Conv2D(128, 1, use_bias=False, name="Conv_1")(x)
    x = keras.layers.BatchNormalization(momentum=0.999, name="Conv_1_bn")(x)
    return keras.Model(pixels, keras.layers.ReLU(6.0, name="out_relu")(x))


def _width(channels: float) -> int:
    return max(8, int(channels + 4) // 8 * 8)
