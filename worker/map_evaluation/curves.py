"""In which order pixels are removed, and what removing or keeping them does to the score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from worker.explain.attribution import upsample
from worker.explain.blending import Heatmap
from worker.map_evaluation.bootstrap import Mean, bootstrap_mean

# Pixels a side of what is removed at once: fine against any map's resolution, and few to sort.
CELL = 4


def pixel_ranking(heatmaps: Any, side: int, seed: int = 0) -> Any:
    """For maps (N, h, w) of images `side` pixels wide, the place of each cell in the order from hottest to
    coldest: float32 (N, n, n) in 0..1, 0 first, n = side / CELL.

    Equal heat, as where a map is 0, is ordered at random, the same way for all maps: a blank map gives a
    random order.
    """
    cells = max(1, -(-side // CELL))
    chance = np.random.default_rng(seed).random(cells * cells)
    return np.stack([_ranks(heatmap, cells, chance) for heatmap in heatmaps])


def _ranks(heatmap: Heatmap, cells: int, chance: Any) -> Any:
    heat = upsample(heatmap, cells, cells).ravel()
    order = np.lexsort((chance, -heat))
    ranks = np.empty(len(order), np.float32)
    ranks[order] = np.arange(len(order), dtype=np.float32) / len(order)
    return ranks.reshape(cells, cells)


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
