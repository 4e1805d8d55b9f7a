"""What an explainer says of a batch, as plain data. No TensorFlow here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from worker.explain.cam import Method

Floats = np.ndarray[Any, np.dtype[np.float32]]
Indices = np.ndarray[Any, np.dtype[np.int32]]

# As a target: the class with the highest score.
PREDICTED_CLASS = -1


@dataclass(frozen=True)
class Explanation:
    """What the network says of a batch of B images, of K classes, and where the scores came from.

    `probabilities` (B, K) is the softmax of `scores` (B, K); `explained` (B,) is the class index each
    heatmap is of, or with every class explained the predicted one. `heatmaps` holds by the explainer's
    `names` (B, h, w) in 0..1, each image divided by its own maximum; `maxima` (B,) those maxima. A maximum
    of 0 says that the map is blank: it is 0 everywhere.
    """

    probabilities: Floats
    scores: Floats
    explained: Indices
    heatmaps: dict[str, Floats]
    maxima: dict[str, Floats]


@dataclass(frozen=True)
class Panel:
    """One heatmap of each image: of which layer, by which method, of which class (None: that explained).

    `name` is short: the layer, and what else tells the panels of an explainer apart. `label` is what
    people read under a picture.
    """

    layer: str
    method: Method
    class_index: int | None
    name: str
    label: str
