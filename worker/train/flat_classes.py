"""Which classes or findings a version says the same of, whatever it is shown."""

from __future__ import annotations

import numpy as np
import scipy.special
from numpy.typing import NDArray

# Log odds of all images within so much are called the same, where there are so many images.
FLAT, FLAT_FROM = 0.1, 10


def flat_classes(scores: NDArray[np.float64], classes: tuple[str, ...], output: str) -> tuple[str, ...]:
    """Those whose log odds, from `scores` (N, classes), differ by less than 0.1 between any two of ten or
    more images: whatever is shown, the odds are within about a tenth of each other."""
    if len(scores) < FLAT_FROM:
        return ()
    odds = np.asarray(scores, np.float64)
    if output == "softmax":
        others = [scipy.special.logsumexp(np.delete(odds, n, axis=1), axis=1) for n in range(len(classes))]
        odds = odds - np.stack(others, axis=1)
    return tuple(name for name, wide in zip(classes, np.ptp(odds, axis=0), strict=True) if wide < FLAT)
