"""Means over images and their intervals: what drawing the images anew gives, or for shares Wilson's."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict

from worker.intervals import share_interval

RESAMPLES = 1000


class Mean(BaseModel):
    """A mean over `images` and its 95% interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float
    low: float
    high: float
    images: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def bootstrap_mean(values: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> Mean:
    """The mean of `values` (N,), N at least 1, and percentiles of the bootstrap over images. With equal N and
    seed the same images are drawn, so that the intervals of two maps of the same images belong together."""
    from scipy.stats import bootstrap  # takes half a second; not needed by who only prints a mean

    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) == 1:  # which SciPy refuses
        return Mean(value=mean, low=mean, high=mean, images=1)
    random = np.random.default_rng(seed)
    found = bootstrap((values,), np.mean, n_resamples=resamples, method="percentile", rng=random)
    low, high = found.confidence_interval
    return Mean(value=mean, low=float(low), high=float(high), images=len(values))


def share_mean(values: ArrayLike) -> Mean:
    """The mean of `values` (N,), each 0 or 1, N at least 1, with Wilson's interval: where all are the same, a
    bootstrap would say that this is certain."""
    found = np.asarray(values, np.float64)
    low, high = share_interval(int(found.sum()), len(found))
    return Mean(value=float(found.mean()), low=low, high=high, images=len(found))
