"""How far values have moved from those that a threshold or a version was measured on: PSI and KS.

Plain Python: the workers' metrics use it too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from worker.model.score_reference import Distribution

# By convention a PSI of 0.1 to 0.25 is a moderate change, above 0.25 a large one (Siddiqi 2006); a KS
# distance of 0.2 moves a fifth of the images across some threshold.
PSI_LARGE = 0.25
KS_LARGE = 0.2
# Fewer images say nothing.
LEAST_IMAGES = 30
# 95% points of chi-squared for 1 to 9 degrees of freedom.
_CHI2_95 = (3.841, 5.991, 7.815, 9.488, 11.070, 12.592, 14.067, 15.507, 16.919)


@dataclass(frozen=True)
class Shift:
    """`psi`: population stability index; `ks`: largest distance of the cumulative shares, at the reference's
    edges. `is_large`: one of them is of a size that matters and more than images drawn from the same would
    give in 19 of 20 cases. `images`: those compared."""

    psi: float
    ks: float
    images: int
    is_large: bool


def shift(reference: Distribution, below: Sequence[int], images: int) -> Shift | None:
    """Compare `images` values, of which `below[i]` lie below `reference.edges[i]`; None for too few.

    PSI = sum of (a - e) ln(a / e) over bins, of shares a now and e then, where an empty bin counts as half
    an image. Drawn from the same, it is (1/n + 1/m) times chi-squared with one degree of freedom less than
    bins (Yurdakul 2018); for KS the bound is 1.358 sqrt(1/n + 1/m).
    """
    if images < LEAST_IMAGES:
        return None
    cumulative = [*below, images]
    counts = [value - before for value, before in zip(cumulative, [0, *below], strict=True)]
    psi = 0.0
    for count, share in zip(counts, reference.shares, strict=True):
        actual = max(count, 0.5) / images
        expected = max(share, 0.5 / reference.images)
        psi += (actual - expected) * math.log(actual / expected)
    ks, total = 0.0, 0.0
    for value, share in zip(below, reference.shares[:-1], strict=True):
        total += share
        ks = max(ks, abs(value / images - total))
    noise = 1.0 / images + 1.0 / reference.images
    degrees = len(reference.edges)
    # Wilson and Hilferty's approximation serves beyond the table.
    bound = (
        _CHI2_95[degrees - 1]
        if degrees <= len(_CHI2_95)
        else degrees * (1 - 2 / (9 * degrees) + 1.645 * math.sqrt(2 / (9 * degrees))) ** 3
    )
    is_large = (psi > PSI_LARGE and psi > bound * noise) or (ks > KS_LARGE and ks > 1.358 * math.sqrt(noise))
    return Shift(psi, ks, images, is_large)
