"""Figures of findings, which do not exclude each other. Truth is (N, K): 1 there, 0 not there, NaN not known,
and what is not known counts nowhere."""

from __future__ import annotations

import numpy as np
import scipy.special
import scipy.stats
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from worker.intervals import Interval, auc_interval, mean_auc_limits

Floats = NDArray[np.float64]


def sigmoid(scores: ArrayLike) -> Floats:
    """Probabilities float64, each of its own."""
    probabilities: Floats = scipy.special.expit(np.asarray(scores, np.float64))
    return probabilities


def known_pairs(truth: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
    """Truth and values (M,) of all images and findings that are known."""
    given, found = np.asarray(truth, np.float64), np.asarray(values, np.float64)
    known = ~np.isnan(given)
    return given[known], found[known]


def findings_log_loss(truth: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean binary cross-entropy over what is known."""
    true, stated = known_pairs(truth, probabilities)
    right = np.where(true == 1, stated, 1.0 - stated)
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def findings_brier(truth: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared distance of probability and truth over what is known."""
    true, stated = known_pairs(truth, probabilities)
    return float(((stated - true) ** 2).mean())


def findings_accuracy(truth: ArrayLike, probabilities: ArrayLike) -> float:
    """Share of what is known that a threshold of 0.5 says rightly."""
    true, stated = known_pairs(truth, probabilities)
    return float(((stated > 0.5) == (true == 1)).mean())


def finding_aucs(truth: ArrayLike, values: ArrayLike) -> list[float]:
    """The area under the ROC curve of each finding; NaN where all known images are of one kind."""
    given, found = np.asarray(truth, np.float64), np.asarray(values, np.float64)
    areas = []
    for column, stated in zip(given.T, found.T, strict=True):
        known = ~np.isnan(column)
        areas.append(rank_auc(column[known] == 1, stated[known]))
    return areas


def rank_auc(positive: NDArray[np.bool_], values: Floats) -> float:
    """The area under the ROC curve as the Mann-Whitney statistic, from ranks, ties at their mean: what
    scikit-learn gives, in a tenth of the time, for bootstraps. NaN where all images are of one kind."""
    some = int(positive.sum())
    rest = len(positive) - some
    if not some or not rest:
        return float("nan")
    ranks = scipy.stats.rankdata(values)
    return float((ranks[positive].sum() - some * (some + 1) / 2) / (some * rest))


def mean_auc(truth: ArrayLike, values: ArrayLike) -> float:
    """The mean over the findings that can be measured; NaN where there is none."""
    areas = [area for area in finding_aucs(truth, values) if not np.isnan(area)]
    return float(np.mean(areas)) if areas else float("nan")


def mean_auc_interval(truth: ArrayLike, values: ArrayLike, *, resamples: int, seed: int) -> Interval:
    """The 95% interval of `mean_auc`, see `mean_auc_limits`. Images are drawn anew whole, so that findings
    that come together stay together."""
    given, found = np.asarray(truth, np.float64), np.asarray(values, np.float64)
    random = np.random.RandomState(seed)
    drawn = []
    for _ in range(resamples):
        chosen = random.randint(0, len(given), len(given))
        drawn.append(mean_auc(given[chosen], found[chosen]))
    kinds = [(int((one == 1).sum()), int((one == 0).sum())) for one in given.T]
    areas = zip(finding_aucs(given, found), kinds, strict=True)
    return mean_auc_limits([auc_interval(area, *kind) for area, kind in areas], drawn)


def fit_findings_temperature(truth: ArrayLike, scores: ArrayLike, bounds: Interval) -> float:
    """The temperature T, within `bounds`, for which sigmoid(scores / T) has the least log loss over all
    findings together. As `worker.train.metrics.fit_temperature`, for two classes of which one has score 0."""
    true, found = known_pairs(truth, scores)
    signs = np.where(true == 1, 1.0, -1.0)

    def loss(log_temperature: float) -> float:
        return float(-scipy.special.log_expit(signs * found / np.exp(log_temperature)).mean())

    best = minimize_scalar(loss, bounds=np.log(bounds), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(best.x))
