"""What a check sees of an image: the activations of one layer, averaged over the cells of a coarse grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from worker.model.metadata import Layer

GRID = 3


def layer_to_check(layers: Sequence[Layer], size: int) -> Layer:
    """The layer that a check looks at: of the ends of blocks whose map has a sixteenth of the input's side,
    the one in the middle.

    Early enough that what a training learns of its classes has not replaced the general features below,
    late enough to tell bodies from other things: of the layers of MobileNetV2 that were compared, the last
    one, pooled, told 84 of 138 radiographs turned by 180 degrees; this one all.
    """
    ends = [layer for layer in layers if layer.is_cam_candidate] or list(layers)
    wanted = size / 16
    nearest = min(abs(layer.height - wanted) for layer in ends)
    fitting = [layer for layer in ends if abs(layer.height - wanted) == nearest]
    return fitting[(len(fitting) - 1) // 2]


def pool(activations: Any, grid: int = GRID) -> Any:
    """Means over `grid` x `grid` cells of activations (B, h, w, C): float32 (B, grid * grid * C).

    Where the grid does not divide the map, neighbouring cells share a row or column.
    """
    height, width, channels = activations.shape[1:]
    cells = tf.constant(np.kron(_cells(height, grid), _cells(width, grid)))
    means = tf.matmul(cells, tf.reshape(activations, (-1, height * width, channels)))
    return tf.reshape(means, (-1, grid * grid * channels))


def _cells(side: int, grid: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    weights = np.zeros((grid, side), np.float32)
    for cell in range(grid):
        first, last = cell * side // grid, -(-(cell + 1) * side // grid)
        weights[cell, first:last] = 1 / (last - first)
    return weights
