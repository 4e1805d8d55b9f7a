"""Where the heat of a map lies in the picture: at the border, in the corners, in a marked area."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from worker.explain.blending import Heatmap
from worker.images.preprocess import Pixels
from worker.model.metadata import Preprocessing

_SIDE = 64
Mask = np.ndarray[Any, np.dtype[np.bool_]]


def corner(side: int, *, top: bool, left: bool) -> Mask:
    """One corner of a picture, a square of a quarter of its side (6% of the area): bool (side, side)."""
    mask = np.zeros((side, side), bool)
    quarter = side // 4
    rows = slice(quarter) if top else slice(-quarter, None)
    mask[rows, slice(quarter) if left else slice(-quarter, None)] = True
    return mask


def border(side: int) -> Mask:
    """The frame of a picture, an eighth of its side wide (44% of the area): bool (side, side)."""
    mask = np.ones((side, side), bool)
    frame = side // 8
    mask[frame:-frame, frame:-frame] = False
    return mask


def middle(side: int) -> Mask:
    """The middle half of a picture in each direction (25% of the area): bool (side, side)."""
    mask = np.zeros((side, side), bool)
    quarter = side // 4
    mask[quarter:-quarter, quarter:-quarter] = True
    return mask


BORDER = border(_SIDE)
CORNERS = np.any(
    [corner(_SIDE, top=top, left=left) for top in (True, False) for left in (True, False)], axis=0
)
BORDER_AREA, CORNER_AREA = float(BORDER.mean()), float(CORNERS.mean())


@dataclass(frozen=True)
class AttributionShares:
    """Shares, 0..1, of a map's heat. `border`: in a frame an eighth of the side wide, 44% of the area;
    `corner`: in the four corners, squares of a quarter of the side, 25% of the area; `marked`: in the
    area marked in this image, None where none is known. Of the part of the picture the network sees."""

    border: float
    corner: float
    marked: float | None


def attribution_shares(heatmap: Heatmap, area: Pixels | None = None) -> AttributionShares | None:
    """The shares of `heatmap` (h, w); None for a blank one.

    `area`, uint8 (H, W), 0 or 255, is the marked area as the network sees it, see `mask_in_input`.
    """
    if not heatmap.any():
        return None
    heat = upsample(heatmap, _SIDE, _SIDE)
    total = heat.sum()
    marked = None
    if area is not None:
        fine = upsample(heatmap, *area.shape)
        marked = float(fine[area > 127].sum() / fine.sum())
    return AttributionShares(float(heat[BORDER].sum() / total), float(heat[CORNERS].sum() / total), marked)


def upsample(heatmap: Heatmap, height: int, width: int) -> Heatmap:
    """`heatmap` resized bilinearly with half-pixel centres, as overlays are: float32 (height, width)."""
    image = Image.fromarray(np.asarray(heatmap, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def mask_in_input(area: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """A marked area of the whole image (mode L, 0 or 255) as the network's input shows it: uint8
    (size, size)."""
    side = preprocessing.size
    box = preprocessing.box(area.width, area.height)
    return np.asarray(area.resize((side, side), Image.Resampling.BILINEAR, box=box))
