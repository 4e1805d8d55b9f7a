"""How hot the maps of a version get: one scale per layer and method, so that weak evidence looks weak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from worker.explain.cam import METHODS, MethodInput
from worker.explain.explainer import Explainer
from worker.images.preprocess import Pixels
from worker.model.metadata import ModelMetadata

# Of the images' maxima: a single image that is far hotter than all others does not make these look cold.
QUANTILE = 0.95
_BATCH = 16


def heat_scales(
    metadata: ModelMetadata, network: Any, pixels: Pixels, layers: Sequence[str] = ()
) -> dict[str, float]:
    """By `layer method` the QUANTILE of the heatmaps' maxima before scaling, each image explained for its
    predicted class; `pixels` are uint8 (N, size, size), of images that were not learned from.

    Of `layers`, without them of all that maps are usually of. Score-CAM, a minute an image, is left out, as
    are layers whose maps are blank: their overlays are scaled image by image.
    """
    names = list(layers) or [layer.name for layer in metadata.layers if layer.is_cam_candidate]
    methods = [name for name, one in METHODS.items() if one.needs is not MethodInput.MASKED_SCORES]
    explainer = Explainer(metadata, network, names, methods)
    maxima: dict[str, list[float]] = {panel.name: [] for panel in explainer.panels}
    for start in range(0, len(pixels), _BATCH):
        for name, values in explainer.explain(pixels[start : start + _BATCH]).maxima.items():
            maxima[name].extend(float(value) for value in values)
    found = {name: float(f"{np.quantile(values, QUANTILE):.4g}") for name, values in maxima.items() if values}
    return {name: value for name, value in found.items() if value > 0}
