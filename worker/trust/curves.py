"""What taking away, or showing, what a map marks does to the score. No TensorFlow here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from worker.trust.bootstrap import Mean, bootstrap_mean

Scores = np.ndarray[Any, np.dtype[np.float64]]


class Faithfulness(BaseModel):
    """Means over images, in units of the score before the softmax, see `Curves`. `faithfulness`, the mean
    of `insertion - deletion` and `road`, is what layers and methods are ranked by; only differences between
    maps of the same images mean something."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    faithfulness: Mean
    insertion: Mean
    deletion: Mean
    road: Mean
    road_most_first: Mean
    road_least_first: Mean


@dataclass(frozen=True)
class Curves:
    """Per image, float64 (N,), means over the share of the picture that is removed or shown.

    `insertion`: score as the hottest places appear in the blurred image, more is better; `deletion`: as they
    are replaced by the image's mean gray, less is better (areas under the curve, Petsiuk et al. 2018,
    arXiv 1806.07421). `road_most_first` and `road_least_first`: as the hottest, or the coldest, tenths up
    to nine are removed and imputed from around, the two orders of ROAD (arXiv 2202.00449).
    """

    insertion: Scores
    deletion: Scores
    road_most_first: Scores
    road_least_first: Scores

    @property
    def road(self) -> Scores:
        """What removing the hottest costs more than removing the coldest; more is better."""
        return self.road_least_first - self.road_most_first

    @property
    def faithfulness(self) -> Scores:
        return (self.insertion - self.deletion + self.road) / 2

    def summary(self) -> Faithfulness:
        names = Faithfulness.model_fields
        return Faithfulness(**{name: bootstrap_mean(getattr(self, name)) for name in names})
