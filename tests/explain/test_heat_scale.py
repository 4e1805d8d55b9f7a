"""Where the colours of a version's overlays end: at the heat of maps as a run makes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worker.explain.explainer import Explainer
from worker.explain.options import ARGMAX_TARGET
from worker.model.network import load_model
from worker.train.heat_scale import QUANTILE, heat_scales

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("positive", [None, 1])
def test_scale_is_that_of_the_class_which_a_run_explains(model_folder: Path, positive: int | None) -> None:
    metadata, network = load_model(model_folder)
    name = None if positive is None else metadata.classes[positive]
    described = metadata.model_copy(update={"positive_class": name})
    layer = metadata.default_layer
    pixels = np.random.default_rng(0).integers(
        0, 256, (6, metadata.preprocessing.size, metadata.preprocessing.size), np.uint8
    )
    target = ARGMAX_TARGET if positive is None else positive
    explainer = Explainer(metadata, network, [layer], ["gradcam"])
    (maxima,) = explainer.explain(pixels, [target] * len(pixels)).maxima.values()

    found = heat_scales(described, network, pixels, [layer])

    assert found[f"{layer} gradcam"] == pytest.approx(np.quantile(maxima, QUANTILE), rel=1e-3)
