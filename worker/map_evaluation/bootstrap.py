"""Means over images with the interval that drawing the images anew gives."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

RESAMPLES = 1000


class Mean(BaseModel):
    """A mean over `images` and its 95% interval, by percentiles of the bootstrap over images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    low: float
    high: float
    images: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def bootstrap_mean(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Mean:
    """The mean of `values` (N,), N at least 1. With equal N and seed the same images are drawn, so that
    the intervals of two maps of the same images belong together."""
    from scipy.stats import bootstrap  # takes half a second; not needed by who only prints a mean

    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) == 1:  # which SciPy refuses
        return Mean(value=mean, low=mean, high=mean, images=1)
    random = np.random.default_rng(seed)
    found = bootstrap((values,), np.mean, n_resamples=resamples, method="percentile", rng=random)
    low, high = found.confidence_interval
    return Mean(value=mean, low=float(low), high=float(high), images=len(values))
