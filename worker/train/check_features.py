"""Features of many pictures for fitting and measuring a check, by the part of the network that they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from worker.explain.forward import Step, Values, inference_steps, scale
from worker.images.preprocess import Pixels
from worker.input_check.features import pool
from worker.model.metadata import Preprocessing

BATCH = 32


class FeatureReader:
    """A network up to one layer, made ready to give the features of many pictures.

    `progress` is told how many it has done in all, after each batch, and may raise.
    """

    def __init__(
        self,
        network: Any,
        preprocessing: Preprocessing,
        layer: str,
        progress: Callable[[int], object] = lambda _done: None,
    ) -> None:
        self._progress, self._done = progress, 0
        steps: list[Step] = []
        for step in inference_steps(network, keep=(layer,)):
            steps.append(step)
            if step.name == layer:
                break
        source, sink = id(network.inputs[0]), steps[-1].output
        side = preprocessing.size

        def forward(pictures: Any) -> Any:
            values: Values = {source: scale(pictures, preprocessing)}
            for step in steps:
                step.run(values)
            return pool(values[sink])

        self._forward = tf.function(
            forward, autograph=False, input_signature=[tf.TensorSpec((BATCH, side, side), tf.uint8)]
        )

    def __call__(self, pictures: Sequence[Pixels]) -> Any:
        """Features float32 (N, F) of `pictures`, each uint8 (size, size); a picture's do not depend on the
        others."""
        parts = []
        for start in range(0, len(pictures), BATCH):
            batch = np.stack(list(pictures[start : start + BATCH]))
            filled = np.pad(batch, ((0, BATCH - len(batch)), (0, 0), (0, 0)))
            parts.append(self._forward(tf.constant(filled)).numpy()[: len(batch)])
            self._done += len(batch)
            self._progress(self._done)
        return np.concatenate(parts)
