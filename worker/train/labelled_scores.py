"""A network's scores of labelled images: the same way for every model, whoever trained it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from worker.explain.preprocess import Pixels, network_input
from worker.explain.scaling import scale
from worker.model.description import Preprocessing
from worker.train.dataset import Labelled

BATCH = 32


def labelled_scores(
    network: Any,
    preprocessing: Preprocessing,
    dataset: Labelled,
    indices: Sequence[int] | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Any:
    """Scores before the softmax, float32 (N, classes), of all images of `dataset` or of those at `indices`.

    `progress` is told how many images are done. Raises ImageError for a file that has become unreadable.
    """
    chosen = range(len(dataset)) if indices is None else indices

    def prepared(index: int) -> Pixels:
        return network_input(dataset.radiograph(index), preprocessing)

    def forward(pixels: Any) -> Any:
        return network(scale(pixels, preprocessing), training=False)

    side = preprocessing.size
    predict = tf.function(forward, input_signature=[tf.TensorSpec((None, side, side), tf.uint8)])
    parts = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            parts.append(predict(np.stack(list(pool.map(prepared, part)))).numpy())
            progress(start + len(part))
    return np.concatenate(parts)
