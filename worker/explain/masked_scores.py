"""Scores of one image seen through each channel of a layer, in chunks within a memory limit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf

from worker.explain.layerwise import Step, Values, inference_steps
from worker.explain.preprocess import Pixels
from worker.explain.scaling import scale
from worker.model.description import Preprocessing

MEMORY = 400_000_000

# A layer's input and output are held at once, and libraries take as much again to work in.
_TENSORS_AT_ONCE = 4


class MaskedScores:
    """A network made ready to score masked copies of an image. Not for use by several threads at once."""

    def __init__(self, network: Any, preprocessing: Preprocessing, memory: int = MEMORY) -> None:
        """`memory` (bytes) bounds what one chunk of copies takes, but for a chunk of one."""
        self._preprocessing = preprocessing
        largest = max(math.prod(layer.output.shape[1:]) for layer in network.layers)
        self.chunk = int(max(1, min(64, memory // (4 * largest * _TENSORS_AT_ONCE))))
        steps = inference_steps(network, keep=())
        self._source, self._sink = id(network.inputs[0]), id(network.outputs[0])
        self._compiled = tf.function(self._score, autograph=False, reduce_retracing=True)
        self._steps: list[Step] = steps

    def __call__(self, image: Pixels, activations: Any) -> Any:
        """Scores float32 (C, K) of `image`, uint8 (size, size), masked by each of `activations` (h, w, C).

        Every chunk has the same size, filled up at the end, so that a score does not depend on where in
        the layer its channel comes.
        """
        masks = np.ascontiguousarray(np.moveaxis(np.asarray(activations), -1, 0))
        count = len(masks)
        masks = np.pad(masks, ((0, -count % self.chunk), (0, 0), (0, 0)))
        picture = tf.constant(image[np.newaxis])
        parts = [
            self._compiled(picture, tf.constant(masks[start : start + self.chunk])).numpy()
            for start in range(0, len(masks), self.chunk)
        ]
        return np.concatenate(parts)[:count]

    def _score(self, image: Any, masks: Any) -> Any:
        side = self._preprocessing.size
        large = tf.image.resize(masks[..., tf.newaxis], (side, side))
        least = tf.reduce_min(large, axis=(1, 2), keepdims=True)
        greatest = tf.reduce_max(large, axis=(1, 2), keepdims=True)
        shares = tf.math.divide_no_nan(large - least, greatest - least)
        values: Values = {self._source: scale(image, self._preprocessing) * shares}
        for step in self._steps:
            step.run(values)
        return values[self._sink]
