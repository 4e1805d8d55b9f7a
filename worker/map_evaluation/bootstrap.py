"""Means over images with the interval that drawing the images anew gives. No TensorFlow here."""

from __future__ import annotations

from typing import Any

import numpy as np
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


def bootstrap_mean(values: Any, *, resamples: int = RESAMPLES, seed: int = 0) -> Mean:
    """The mean of `values` (N,), N at least 1. With equal N and seed the same images are drawn, so that
    the intervals of two maps of the same images belong together."""
    values = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return Mean(value=float(values.mean()), low=float(low), high=float(high), images=len(values))
