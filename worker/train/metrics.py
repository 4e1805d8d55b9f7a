"""Figures of a model's predictions on labelled images.

For two classes the second, in the order of the names, is the positive one. For more, each class against the
rest, and the mean over classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict
from scipy.optimize import minimize_scalar
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve
from sklearn.utils import resample

TARGET_SENSITIVITY = 0.9  # WHO 2014, minimal profile of a triage test: 90% with a specificity of 70%
TEMPERATURES = (0.05, 20.0)  # what a temperature may be

Labels = NDArray[np.integer[Any]]
Floats = NDArray[np.float64]


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Point(_Figures):
    """A threshold on the probability and what it gives. Threshold above 1: no image is positive."""

    threshold: float
    sensitivity: float
    specificity: float


class ClassFigures(_Figures):
    """One class against the rest."""

    auc: float
    at_half: Point
    youden: Point
    at_target_sensitivity: Point


class Bin(_Figures):
    """Images whose stated probability is in one tenth of 0..1, and how often it came true."""

    predicted: float
    observed: float
    images: int


class Metrics(_Figures):
    """`auc_interval`: 95%, bootstrap over images within each class. `brier`: mean over images of the
    squared distance of probability and truth, summed over classes and halved, so that for two classes it
    is the usual one. `confusion[t][p]`: images of class t predicted as p.
    `temperature`: what scores are divided by to be calibrated, fitted elsewhere or on these images."""

    classes: tuple[str, ...]
    images: dict[str, int]
    auc: float
    auc_interval: tuple[float, float]
    accuracy: float
    log_loss: float
    brier: float
    expected_calibration_error: float
    temperature: float
    brier_with_temperature: float
    sensitivity: float
    specificity: float
    youden: Point | None
    specificity_at_sensitivity_90: float
    reliability: tuple[Bin, ...]
    confusion: tuple[tuple[int, ...], ...]
    by_class: dict[str, ClassFigures]


def compute_metrics(
    labels: ArrayLike,
    scores: ArrayLike,
    classes: tuple[str, ...],
    *,
    temperature: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Metrics:
    """All figures of `scores` (N, classes), before the softmax, against `labels` (N,), class indices.

    `temperature` from the validation part; None fits it on these images, which then must be that part.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    probabilities = softmax(scores)
    temperature = fit_temperature(labels, scores) if temperature is None else temperature
    by_class = {name: _against_rest(labels == n, probabilities[:, n]) for n, name in enumerate(classes)}
    leading = [by_class[classes[1]]] if len(classes) == 2 else list(by_class.values())
    bins, error = _reliability(labels, probabilities)
    return Metrics(
        classes=classes,
        images={name: int((labels == n).sum()) for n, name in enumerate(classes)},
        auc=roc_auc(labels, probabilities),
        auc_interval=auc_interval(labels, probabilities, resamples=resamples, seed=seed),
        accuracy=float((probabilities.argmax(1) == labels).mean()),
        log_loss=log_loss(labels, probabilities),
        brier=_brier(labels, probabilities),
        expected_calibration_error=error,
        temperature=temperature,
        brier_with_temperature=_brier(labels, softmax(scores / temperature)),
        sensitivity=float(np.mean([c.at_half.sensitivity for c in leading])),
        specificity=float(np.mean([c.at_half.specificity for c in leading])),
        youden=leading[0].youden if len(classes) == 2 else None,
        specificity_at_sensitivity_90=float(np.mean([c.at_target_sensitivity.specificity for c in leading])),
        reliability=bins,
        confusion=tuple(
            tuple(int(count) for count in row)
            for row in confusion_matrix(labels, probabilities.argmax(1), labels=range(len(classes)))
        ),
        by_class=by_class,
    )


def softmax(scores: ArrayLike) -> Floats:
    """Probabilities float64 (N, classes)."""
    probabilities: Floats = scipy.special.softmax(np.asarray(scores, np.float64), axis=-1)
    return probabilities


def log_loss(labels: Labels, probabilities: Floats) -> float:
    """Mean of minus the logarithm of the true class's probability; NaN if a probability is not a number."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())


def roc_auc(labels: ArrayLike, probabilities: Floats) -> float:
    """Of the ROC curve; for more than two classes the mean of each against the rest. NaN when only one
    class is present."""
    labels = np.asarray(labels)
    if probabilities.shape[1] == 2:
        return _auc(labels == 1, probabilities[:, 1])
    return float(np.mean([_auc(labels == n, probabilities[:, n]) for n in range(probabilities.shape[1])]))


def auc_interval(
    labels: ArrayLike, probabilities: Floats, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 95% percentile interval of `roc_auc` over images drawn anew within each class."""
    labels, random = np.asarray(labels), np.random.RandomState(seed)
    found = [
        roc_auc(*resample(labels, probabilities, stratify=labels, random_state=random))
        for _ in range(resamples)
    ]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def fit_temperature(labels: ArrayLike, scores: ArrayLike) -> float:
    """The temperature T, of 0.05 to 20, for which softmax(scores / T) has the least log loss.

    Guo et al. 2017, arXiv 1706.04599. Of log(T) the loss has one minimum: it is convex in 1 / T.
    """
    scores, true = np.asarray(scores, np.float64), np.asarray(labels)[:, np.newaxis]

    def loss(log_temperature: float) -> float:
        logs = scipy.special.log_softmax(scores / np.exp(log_temperature), axis=1)
        return float(-np.take_along_axis(logs, true, axis=1).mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(found.x))


def _auc(positive: NDArray[np.bool_], probability: Floats) -> float:
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, probability))


def _against_rest(positive: NDArray[np.bool_], probability: Floats) -> ClassFigures:
    false_alarms, hits, thresholds = roc_curve(positive, probability, drop_intermediate=False)
    enough = int(np.argmax(hits >= TARGET_SENSITIVITY))
    best = int(np.argmax(hits - false_alarms))

    def point(index: int) -> Point:
        return Point(
            threshold=min(float(thresholds[index]), 2.0),
            sensitivity=float(hits[index]),
            specificity=float(1 - false_alarms[index]),
        )

    predicted = probability > 0.5
    return ClassFigures(
        auc=_auc(positive, probability),
        at_half=Point(
            threshold=0.5,
            sensitivity=float(predicted[positive].mean()),
            specificity=float((~predicted)[~positive].mean()),
        ),
        youden=point(best),
        at_target_sensitivity=point(enough),
    )


def _brier(labels: Labels, probabilities: Floats) -> float:
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(1).mean() / 2)


def _reliability(labels: Labels, probabilities: Floats) -> tuple[tuple[Bin, ...], float]:
    """Tenths of the probability of the positive class, or with more classes of the predicted one; and the
    mean distance of predicted and observed over images."""
    if probabilities.shape[1] == 2:
        stated, right = probabilities[:, 1], labels == 1
    else:
        stated, right = probabilities.max(1), probabilities.argmax(1) == labels
    tenth = np.minimum((stated * 10).astype(int), 9)
    bins = tuple(
        Bin(
            predicted=float(stated[tenth == n].mean()),
            observed=float(right[tenth == n].mean()),
            images=int((tenth == n).sum()),
        )
        for n in range(10)
        if (tenth == n).any()
    )
    error = sum(b.images * abs(b.predicted - b.observed) for b in bins) / len(labels)
    return bins, float(error)
