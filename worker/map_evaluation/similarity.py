"""How alike two maps are."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.ndimage import uniform_filter
from scipy.stats import spearmanr

from worker.explain.attribution import upsample
from worker.explain.blending import Heatmap
from worker.map_evaluation.bootstrap import Mean, bootstrap_mean

_SIDE = 56
_WINDOW = 7
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2


class Similarity(BaseModel):
    """Means over pairs of maps, see `spearman` and `structural`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spearman: Mean
    ssim: Mean


def spearman(first: Heatmap, second: Heatmap) -> float:
    """Correlation, -1..1, of the ranks of heat; equal heat shares a rank; 0 where a map is the same
    everywhere. Both maps are upsample to 56 x 56 first."""
    left, right = (upsample(one, _SIDE, _SIDE).ravel() for one in (first, second))
    if np.ptp(left) == 0 or np.ptp(right) == 0:  # for which SciPy has NaN and a warning
        return 0.0
    return float(spearmanr(left, right).statistic)


def structural(first: Heatmap, second: Heatmap) -> float:
    """Structural similarity, -1..1, of maps in 0..1, upsample to 56 x 56: the mean over windows of 7 x 7.

    Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE
    Transactions on Image Processing 13(4), equation 13, with a uniform window.
    """
    x, y = (upsample(one, _SIDE, _SIDE).astype(np.float64) for one in (first, second))
    mean_x, mean_y = uniform_filter(x, _WINDOW), uniform_filter(y, _WINDOW)
    variance_x = uniform_filter(x * x, _WINDOW) - mean_x**2
    variance_y = uniform_filter(y * y, _WINDOW) - mean_y**2
    covariance = uniform_filter(x * y, _WINDOW) - mean_x * mean_y
    above = (2 * mean_x * mean_y + _LUMINANCE) * (2 * covariance + _CONTRAST)
    below = (mean_x**2 + mean_y**2 + _LUMINANCE) * (variance_x + variance_y + _CONTRAST)
    edge = _WINDOW // 2
    return float((above / below)[edge:-edge, edge:-edge].mean())


def similarity(first: Any, second: Any) -> Similarity:
    """Of maps (N, h, w) and the maps (N, H, W) of the same images."""
    pairs = list(zip(first, second, strict=True))
    return Similarity(
        spearman=bootstrap_mean([spearman(*pair) for pair in pairs]),
        ssim=bootstrap_mean([structural(*pair) for pair in pairs]),
    )


def unrelated(maps: Any) -> Similarity:
    """Of each map (N, h, w) and that of the next image: what maps share that have nothing to do with one
    another but their model. At least two images."""
    maps = np.asarray(maps)
    return similarity(maps, np.roll(maps, 1, axis=0))
