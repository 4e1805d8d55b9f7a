"""The part of the preprocessing that runs on the accelerator."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from worker.model.description import Preprocessing


def scale(batch: Any, preprocessing: Preprocessing) -> Any:
    """Gray (B, size, size) in 0..255, uint8 or float32, as the network's input: float32 (B, size, size, 3).

    `unit` gives 0..1, `symmetric` -1..1. Usable inside `tf.function` and `tf.data`.
    """
    gray = tf.cast(batch, tf.float32)
    gray = gray / 255.0 if preprocessing.scale == "unit" else gray / 127.5 - 1.0
    return tf.repeat(gray[..., tf.newaxis], 3, axis=-1)
