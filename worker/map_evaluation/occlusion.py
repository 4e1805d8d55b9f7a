"""What hiding a corner, the border or the middle of the picture does to a prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from worker.explain.forward import Values, inference_steps, scale
from worker.images.preprocess import Pixels
from worker.map_evaluation.faithfulness import NOISE, impute
from worker.map_evaluation.occlusion_report import OcclusionReport
from worker.map_evaluation.reports import REGIONS, reliance, reliance_of_findings
from worker.model.metadata import ModelMetadata

_AT_ONCE = 4


def occlusion_sensitivity(
    metadata: ModelMetadata, network: Any, pixels: Pixels
) -> tuple[OcclusionReport, ...]:
    """How much the predictions of `pixels`, uint8 (N, size, size), rest on each of `REGIONS`, which is
    imputed from around as ROAD does (arXiv 2202.00449), so that no edge appears; by predicted class."""
    preprocessing = metadata.preprocessing
    steps = inference_steps(network, keep=())
    side = preprocessing.size
    hidden = tf.constant(np.stack([place(side) for place in REGIONS.values()]))
    noise = NOISE * np.random.default_rng(0).standard_normal((1, side, side)).astype(np.float32)

    def scores(images: Any) -> Any:
        """Scores (B, places + 1, K), the whole image first."""
        gray = tf.cast(images, tf.float32)
        count = tf.shape(gray)[0]
        copies = tf.repeat(gray, len(REGIONS), axis=0)
        masks = tf.tile(hidden, [count, 1, 1])
        changed = tf.where(masks, impute(copies, ~masks) + noise, copies)
        values: Values = {id(network.inputs[0]): scale(tf.concat([gray, changed], 0), preprocessing)}
        for step in steps:
            step.run(values)
        found = values[id(network.outputs[0])]
        inner = tf.reshape(found[count:], (count, len(REGIONS), found.shape[-1]))
        return tf.concat([found[:count, tf.newaxis], inner], 1)

    compiled = tf.function(scores, autograph=False, reduce_retracing=True)
    parts = []
    for start in range(0, len(pixels), _AT_ONCE):
        part = pixels[start : start + _AT_ONCE]
        filled = np.concatenate([part, np.repeat(part[-1:], _AT_ONCE - len(part), axis=0)])
        parts.append(compiled(tf.constant(filled)).numpy()[: len(part)])
    found = np.concatenate(parts)
    if metadata.has_findings:
        return reliance_of_findings(found, metadata.classes)
    return reliance(found, metadata.classes)
