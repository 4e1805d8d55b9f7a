"""Thresholds on the score, and what they give: sensitivity, specificity, and at a prevalence the rest."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_curve
from sklearn.utils import resample

from worker.images.preprocess import input_statistics, preprocess
from worker.model.metadata import Preprocessing
from worker.model.score_reference import COMPARED, Distribution, OperatingPoint
from worker.train.dataset import LabelledDataset
from worker.train.metrics import probabilities_from

Floats = NDArray[np.float64]
Aim = tuple[Literal["sensitivity", "specificity"], float]

# WHO 2014, profile of a triage test for tuberculosis: sensitivity of 90 (optimal 95) %, specificity of 70 %.
AIMS: tuple[Aim, ...] = (("sensitivity", 0.90), ("sensitivity", 0.95), ("specificity", 0.70))
RESAMPLES = 1000
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

    Half-way to the next lower score, so that rounding does not put an image on its other side. `positive`
    (N,) says which images are; `scores` (N,) are 0 to 100, and an image is referred from the threshold on.
    """
    what, wanted = aim
    false_alarms, hits, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    if what == "sensitivity":
        index = int(np.argmax(hits >= wanted - 1e-12))
    else:
        index = int(np.flatnonzero(1.0 - false_alarms >= wanted - 1e-12)[-1])
    upper = min(float(thresholds[index]), 100.0)
    lower = float(thresholds[index + 1]) if index + 1 < len(thresholds) else 0.0
    return (upper + lower) / 2.0


def rates(positive: NDArray[np.bool_], scores: Floats, threshold: float) -> tuple[float, float]:
    """Sensitivity and specificity at `threshold`; NaN where no image is positive, or none negative."""
    referred = scores >= threshold
    sensitivity = float(referred[positive].mean()) if positive.any() else float("nan")
    specificity = float((~referred)[~positive].mean()) if not positive.all() else float("nan")
    return sensitivity, specificity


def operating_point(
    positive: ArrayLike,
    scores: ArrayLike,
    aim: Aim,
    *,
    threshold: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> OperatingPoint:
    """The threshold for `aim` on these images, with 95% intervals; both kinds of image must be there.

    With a `threshold` that was chosen for `aim` on other images, what that one gives on these.
    """
    is_positive, found = np.asarray(positive, bool), np.asarray(scores, np.float64)
    given = threshold
    threshold = threshold_for(is_positive, found, aim) if given is None else given
    random = np.random.RandomState(seed)
    drawn = []
    for _ in range(resamples):
        some, values = resample(is_positive, found, stratify=is_positive, random_state=random)
        chosen = threshold_for(some, values, aim) if given is None else given
        drawn.append((chosen, *rates(some, values, threshold)))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    sensitivity, specificity = rates(is_positive, found, threshold)
    return OperatingPoint(
        name=f"{aim[0]}-{100 * aim[1]:g}",
        threshold=threshold,
        threshold_interval=(float(low[0]), float(high[0])),
        sensitivity=sensitivity,
        sensitivity_interval=(float(low[1]), float(high[1])),
        specificity=specificity,
        specificity_interval=(float(low[2]), float(high[2])),
        positive_images=int(is_positive.sum()),
        negative_images=int((~is_positive).sum()),
    )


def rates_interval(
    positive: NDArray[np.bool_], scores: Floats, threshold: float, *, seed: int = 0
) -> tuple[tuple[float, float], tuple[float, float]]:
    """95% intervals of sensitivity and specificity at a given threshold; both kinds must be there."""
    random = np.random.RandomState(seed)
    drawn = []
    for _ in range(RESAMPLES):
        some, values = resample(positive, scores, stratify=positive, random_state=random)
        drawn.append(rates(some, values, threshold))
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


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
