"""Whether the heat lies in marked areas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from worker.explain.attribution import upsample
from worker.explain.blending import Heatmap
from worker.images.preprocess import Pixels
from worker.map_evaluation.bootstrap import Mean, bootstrap_mean, share_mean

IOU_THRESHOLD = 0.5


@dataclass(frozen=True)
class LocalisationScore:
    """One map against one area. `hit`: its hottest point lies inside (pointing game, Zhang et al. 2016,
    arXiv 1608.00507), 0 or 1. `energy`: heat inside by all heat (proportional energy, Wang et al. 2020,
    arXiv 1910.01279). `iou`: intersection by union of the area and of where the heat reaches
    `IOU_THRESHOLD` of its maximum. All are 0 for a blank map. `area`: the area's share of the picture, which
    is what a map that ignores the image reaches in `hit` and `energy`."""

    hit: float
    energy: float
    iou: float
    area: float


class Localisation(BaseModel):
    """Means over images, see `LocalisationScore`; `blank` counts blank maps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hit: Mean
    energy: Mean
    iou: Mean
    area: float
    blank: int


def score_localisation(heatmap: Heatmap, area: Pixels) -> LocalisationScore:
    """Judge `heatmap` (h, w), upsample bilinearly, by `area`, uint8 (H, W), 0 or 255."""
    inside = area > 127
    covered = float(inside.mean())
    if not heatmap.any():
        return LocalisationScore(0.0, 0.0, 0.0, covered)
    heat = upsample(heatmap, *inside.shape)
    hot = heat >= IOU_THRESHOLD * heat.max()
    return LocalisationScore(
        hit=float(inside[np.unravel_index(int(heat.argmax()), heat.shape)]),
        energy=float(heat[inside].sum() / heat.sum()),
        iou=float((hot & inside).sum() / (hot | inside).sum()),
        area=covered,
    )


def localisation(heatmaps: Sequence[Heatmap] | Any, areas: Sequence[Pixels]) -> Localisation:
    """Judge maps (N, h, w) by the areas of the same images; at least one."""
    found = [score_localisation(heatmap, area) for heatmap, area in zip(heatmaps, areas, strict=True)]
    return Localisation(
        hit=share_mean([one.hit for one in found]),
        energy=bootstrap_mean([one.energy for one in found]),
        iou=bootstrap_mean([one.iou for one in found]),
        area=float(np.mean([one.area for one in found])),
        blank=sum(not heatmap.any() for heatmap in heatmaps),
    )
