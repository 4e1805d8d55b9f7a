"""Thresholds on the score, and what they give: sensitivity, specificity, and at a prevalence the rest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve

from worker.images.preprocess import input_statistics, preprocess
from worker.intervals import quantile_interval, share_interval
from worker.model.metadata import Preprocessing
from worker.model.score_reference import COMPARED, Distribution, OperatingPoint
from worker.train.dataset import LabelledDataset
from worker.train.metrics import probabilities_from

Floats = NDArray[np.float64]
Aim = tuple[Literal["sensitivity", "specificity"], float]

# WHO 2014, profile of a triage test for tuberculosis: sensitivity of 90 (optimal 95) %, specificity of 70 %.
AIMS: tuple[Aim, ...] = (("sensitivity", 0.90), ("sensitivity", 0.95), ("specificity", 0.70))
BINS = 10


def positive_scores(logits: ArrayLike, positive: int, temperature: float, output: str = "softmax") -> Floats:
    """Scores (N,), 0 to 100, of the class at index `positive` from `logits` (N, classes); `output` as in the
    model's metadata."""
    scores: Floats = 100.0 * probabilities_from(logits, output, temperature)[:, positive]
    return scores


def known_positive(dataset: LabelledDataset, indices: Sequence[int], label: int) -> tuple[Any, Any]:
    """Whether images (V,) are of the class, or have the finding, `label`; and for which that is known."""
    truth = dataset.truth(indices)
    if dataset.findings is None:
        return truth == label, np.ones(len(truth), bool)
    return truth[:, label] == 1, ~np.isnan(truth[:, label])


def threshold_for(positive: NDArray[np.bool_], scores: Floats, aim: Aim) -> float:
    """The highest threshold of at least the sensitivity aimed at, or the lowest of at least the specificity.

    About half-way to the next lower score, so that rounding does not put an image on its other side, and with
    as few decimals as that leaves, so that people can repeat it. `positive` (N,) says which images are;
    `scores` (N,) are 0 to 100, and an image is referred from the threshold on.
    """
    what, wanted = aim
    false_alarms, hits, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    if what == "sensitivity":
        index = int(np.argmax(hits >= wanted - 1e-12))
    else:
        index = int(np.flatnonzero(1.0 - false_alarms >= wanted - 1e-12)[-1])
    upper = min(float(thresholds[index]), 100.0)
    lower = float(thresholds[index + 1]) if index + 1 < len(thresholds) else 0.0
    middle = (upper + lower) / 2.0
    for places in range(1, 16):
        short = round(middle, places)
        if abs(short - middle) <= (upper - lower) / 4:
            return short
    return middle


def rates(positive: NDArray[np.bool_], scores: Floats, threshold: float) -> tuple[float, float]:
    """Sensitivity and specificity at `threshold`; NaN where no image is positive, or none negative."""
    referred = scores >= threshold
    sensitivity = float(referred[positive].mean()) if positive.any() else float("nan")
    specificity = float((~referred)[~positive].mean()) if not positive.all() else float("nan")
    return sensitivity, specificity


def counts_at(
    positive: NDArray[np.bool_], scores: Floats, threshold: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Positive images that `threshold` refers, of all such; and negative ones that it clears, of all such."""
    referred = scores >= threshold
    return (
        (int(referred[positive].sum()), int(positive.sum())),
        (int((~referred)[~positive].sum()), int((~positive).sum())),
    )


def threshold_interval(
    positive: NDArray[np.bool_], scores: Floats, aim: Aim, threshold: float
) -> tuple[float, float]:
    """95% interval of the threshold for `aim`: with a sensitivity of 0.9, of the score below which a tenth of
    positive images are. Too few images to bound it leave 0 or 100."""
    what, wanted = aim
    kind, quantile = (positive, 1 - wanted) if what == "sensitivity" else (~positive, wanted)
    if not 0 < quantile < 1:  # of all images: nothing bounds what the next one has
        return (0.0, threshold) if what == "sensitivity" else (threshold, 100.0)
    low, high = quantile_interval(scores[kind], quantile)
    return (
        0.0 if low is None else min(low, threshold),
        100.0 if high is None else max(high, threshold),
    )


def operating_point(
    positive: ArrayLike, scores: ArrayLike, aim: Aim, *, threshold: float | None = None
) -> OperatingPoint:
    """The threshold for `aim` on these images, with 95% intervals; both kinds of image must be there.

    With a `threshold` that was chosen for `aim` on other images, what that one gives on these.
    """
    is_positive, found = np.asarray(positive, bool), np.asarray(scores, np.float64)
    if threshold is None:
        threshold = threshold_for(is_positive, found, aim)
        between = threshold_interval(is_positive, found, aim, threshold)
    else:
        between = (threshold, threshold)
    sensitivity, specificity = rates(is_positive, found, threshold)
    referred, cleared = counts_at(is_positive, found, threshold)
    return OperatingPoint(
        name=f"{aim[0]}-{100 * aim[1]:g}",
        threshold=threshold,
        threshold_interval=between,
        sensitivity=sensitivity,
        sensitivity_interval=share_interval(*referred),
        specificity=specificity,
        specificity_interval=share_interval(*cleared),
        positive_images=int(is_positive.sum()),
        negative_images=int((~is_positive).sum()),
    )


def distribution(values: ArrayLike) -> Distribution | None:
    """`values` (N,) between their own deciles; None where all are the same, and nothing can be compared."""
    found = np.asarray(values, np.float64)
    edges = np.unique(np.quantile(found, np.arange(1, BINS) / BINS))
    edges = edges[edges > found.min()]
    if not len(edges):
        return None
    counts = np.bincount(np.searchsorted(edges, found, side="right"), minlength=len(edges) + 1)
    return Distribution(
        edges=tuple(float(edge) for edge in edges),
        shares=tuple(float(count) / len(found) for count in counts),
        images=len(found),
    )


def distributions(
    dataset: LabelledDataset,
    indices: Sequence[int],
    preprocessing: Preprocessing,
    scores: Floats | None,
    workers: int = 2,
) -> dict[str, Distribution]:
    """By column of the results, how its values are distributed over the images at `indices`."""

    def look(index: int) -> tuple[float, float]:
        return input_statistics(preprocess(dataset.radiograph(index), preprocessing))

    with ThreadPoolExecutor(workers) as pool:
        seen = np.array(list(pool.map(look, indices)))
    values: dict[str, Any] = {"brightness": seen[:, 0], "contrast": seen[:, 1]}
    if scores is not None:
        values["score"] = scores
    found = {name: distribution(values[name]) for name in COMPARED if name in values}
    return {name: one for name, one in found.items() if one is not None}


def score_reference(
    dataset: LabelledDataset,
    validation: Sequence[int],
    preprocessing: Preprocessing,
    logits: ArrayLike,
    *,
    positive_class: str | None,
    temperature: float,
) -> dict[str, Any]:
    """The fields `operating_points` and `distributions` of a version, from the `logits` (V, classes) of its
    validation images; without a positive class there are no scores, and no operating points."""
    if positive_class is None:
        return {"distributions": distributions(dataset, validation, preprocessing, None)}
    label = dataset.classes.index(positive_class)
    scores = positive_scores(logits, label, temperature, dataset.output)
    positive, known = known_positive(dataset, validation, label)
    return {
        "operating_points": tuple(operating_point(positive[known], scores[known], aim) for aim in AIMS),
        "distributions": distributions(dataset, validation, preprocessing, scores),
    }
