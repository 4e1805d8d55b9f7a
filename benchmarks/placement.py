"""Where heat falls, against marked areas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from worker.images.preprocess import Pixels
from worker.model.metadata import Preprocessing

Map = np.ndarray[Any, np.dtype[np.float32]]


class Placement(BaseModel):
    """Means over images. `hit_rate`: the hottest point lies in the area (pointing game, arXiv 1608.00507).
    `share_of_heat`: heat in the area by all heat. `area`: share of the picture it covers, which is what a
    map that ignores the image reaches in both. Blank maps count as misses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int
    hit_rate: float
    share_of_heat: float
    area: float
    blank: int


def placement(heatmaps: Iterable[Map], areas: Iterable[Pixels]) -> Placement:
    """Judge heatmaps (h, w), of any size, against areas (size, size), 0 or more, of the network's input.

    Heatmaps are upsample bilinearly to the area's size first, as overlays are.
    """
    rows = []
    for heatmap, area in zip(heatmaps, areas, strict=True):
        inside = area > 127
        height, width = inside.shape
        heat = np.asarray(Image.fromarray(heatmap).resize((width, height), Image.Resampling.BILINEAR))
        total = float(heat.sum())
        if total <= 0:
            rows.append((0.0, 0.0, inside.mean(), 1.0))
            continue
        hottest = np.unravel_index(int(heat.argmax()), heat.shape)
        rows.append((float(inside[hottest]), float(heat[inside].sum()) / total, inside.mean(), 0.0))
    hit, share, covered, blank = np.array(rows).T
    return Placement(
        images=len(rows),
        hit_rate=float(hit.mean()),
        share_of_heat=float(share.mean()),
        area=float(covered.mean()),
        blank=int(blank.sum()),
    )


def mask_in_input(area: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """The marked area as the network's input shows it: uint8 (size, size)."""
    side = preprocessing.size
    box = preprocessing.box(area.width, area.height)
    return np.asarray(area.resize((side, side), Image.Resampling.BILINEAR, box=box))
