"""How hot the maps of a version get: one scale per layer and method, so that weak evidence looks weak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from worker.explain.cam import METHODS, MethodInput
from worker.explain.explainer import Explainer
from worker.explain.options import ARGMAX_TARGET
from worker.images.preprocess import Pixels
from worker.model.metadata import ModelMetadata

# Of the images' maxima. At 0.95 the starter's sure images of another hospital looked cold (a fifth to two
# fifths of the scale): a gradient is no larger for being sure. The hottest quarter shares the last colour.
QUANTILE = 0.75
_BATCH = 16


def heat_scales(
    metadata: ModelMetadata, network: Any, pixels: Pixels, layers: Sequence[str] = ()
) -> dict[str, float]:
    """By `layer method` the QUANTILE of the heatmaps' maxima before scaling.

    `pixels` are uint8 (N, size, size), of images that were not learned from. They are explained for the
    class that a run explains unless told otherwise: the positive class, or without one the predicted class.
    Maps of different classes differ in heat.

    Of `layers`, without them of all that maps are usually of. Score-CAM, a minute an image, is left out, as
    are layers whose maps are blank: their overlays are scaled image by image.
    """
    names = list(layers) or [layer.name for layer in metadata.layers if layer.is_cam_candidate]
    methods = [name for name, one in METHODS.items() if one.needs is not MethodInput.MASKED_SCORES]
    explainer = Explainer(metadata, network, names, methods)
    maxima: dict[str, list[float]] = {panel.name: [] for panel in explainer.panels}
    positive = metadata.positive_class
    target = ARGMAX_TARGET if positive is None else metadata.require_class(positive)
    for start in range(0, len(pixels), _BATCH):
        batch = pixels[start : start + _BATCH]
        for name, values in explainer.explain(batch, [target] * len(batch)).maxima.items():
            maxima[name].extend(float(value) for value in values)
    found = {name: float(f"{np.quantile(values, QUANTILE):.4g}") for name, values in maxima.items() if values}
    return {name: value for name, value in found.items() if value > 0}
