"""95% intervals that stay honest with few images, and where all of them say the same.

Of 5 images of which all are found a bootstrap says 1.000 to 1.000, because it draws from these five alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtri

Interval = tuple[float, float]

_LEVEL = 0.95
_Z = float(ndtri((1 + _LEVEL) / 2))


def share_intervals(some: ArrayLike, of: ArrayLike) -> NDArray[np.float64]:
    """Lower and upper limits (2, ...) of the shares `some` of `of`: Wilson's score interval (Wilson 1927;
    Brown, Cai and DasGupta 2001, Statistical Science 16). NaN where `of` is 0."""
    images = np.asarray(of, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.asarray(some, np.float64) / images
        centre = (share + _Z**2 / (2 * images)) / (1 + _Z**2 / images)
        half = _Z * np.sqrt(share * (1 - share) / images + (_Z / (2 * images)) ** 2) / (1 + _Z**2 / images)
    # At 0 and at 1 the limit is the share itself, but for rounding.
    low = np.where(share == 0, 0.0, centre - half)
    high = np.where(share == 1, 1.0, centre + half)
    return np.stack([low, high])


def share_interval(some: int, of: int) -> Interval:
    """Wilson's interval of one share, see `share_intervals`."""
    low, high = share_intervals(some, of)
    return float(low), float(high)


def auc_interval(auc: float, present: int, absent: int) -> Interval:
    """Newcombe's score interval of an area under the ROC curve, which `present` and `absent` images gave:
    method 5 of Newcombe 2006, Statistics in Medicine 25, 559, from the variance of Hanley and McNeil 1982.
    As Wilson's it is not empty at 0 and 1. NaN where the area is."""
    if np.isnan(auc):
        return float("nan"), float("nan")
    others = (present + absent) / 2 - 1

    def beyond(area: float) -> float:
        spread = 1 + others * ((1 - area) / (2 - area) + area / (1 + area))
        return float((auc - area) ** 2 - _Z**2 * area * (1 - area) * spread / (present * absent))

    # Outside of the interval `beyond` is positive, inside negative; at 0 and 1 it is as the area is there.
    inside = min(max(auc, 1e-12), 1 - 1e-12)
    low = 0.0 if auc == 0 else brentq(beyond, 0.0, inside)
    high = 1.0 if auc == 1 else brentq(beyond, inside, 1.0)
    return float(low), float(high)


def mean_auc_limits(limits: Sequence[Interval], drawn: ArrayLike) -> Interval:
    """The interval of a mean of areas whose own are `limits`: percentiles of `drawn`, that mean on images
    drawn anew. With one area, or where drawing changes nothing since each is 0 or 1, the mean of the limits,
    which is too wide rather than too narrow. NaN is passed over."""
    known = [one for one in limits if not np.isnan(one[0])]
    values = np.asarray(drawn, np.float64)
    values = values[~np.isnan(values)]
    if len(known) > 1 and len(values):
        low, high = np.percentile(values, [2.5, 97.5])
        if low < high:
            return float(low), float(high)
    if not known:
        return float("nan"), float("nan")
    low, high = np.mean(known, axis=0)
    return float(low), float(high)


def quantile_interval(values: ArrayLike, quantile: float) -> tuple[float | None, float | None]:
    """The interval of a quantile of what `values` (N,) were drawn from: between two of them, by the binomial
    distribution of how many are below (Conover 1999, section 3.2). None where so few cannot bound it."""
    from scipy.stats import quantile_test  # takes half a second; not needed by who computes shares

    found: Any = quantile_test(np.asarray(values, np.float64), p=quantile).confidence_interval(_LEVEL)
    low, high = (None if np.isnan(limit) else float(limit) for limit in found)
    return low, high
