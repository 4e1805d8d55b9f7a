"""Figures of a model's predictions on labelled images.

Of two classes sensitivity is that for the positive one; where none was named, for the second in the order of
the names. For more, each class against the rest, and the mean over classes. Where classes are findings, which
do not exclude each other, each on the images on which it is known, and the mean over findings: labels are
then (N, classes) of 1, 0 and NaN, see `worker.train.findings_metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict
from scipy.optimize import minimize_scalar
from sklearn.metrics import confusion_matrix, roc_curve
from sklearn.utils import resample

from worker import intervals
from worker.intervals import Interval, share_interval
from worker.train import findings_metrics as of_findings
from worker.train.flat_classes import flat_classes

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


class FindingFigures(ClassFigures):
    """One finding, on the `present` and `absent` images on which it is known. Intervals: 95%, of
    `worker.intervals`. NaN where all images are of one kind."""

    present: int
    absent: int
    unknown: int
    auc_interval: Interval
    sensitivity_interval: Interval
    specificity_interval: Interval


class Bin(_Figures):
    """Images whose stated probability is in one tenth of 0..1, and how often it came true."""

    predicted: float
    observed: float
    images: int


class Metrics(_Figures):
    """Intervals: 95%, of `worker.intervals`; of the AUC of more than two classes and of findings, which is a
    mean, by bootstrap over images. Sensitivity and specificity have one for two classes. `brier`: mean over
    images of the squared distance of probability and truth, summed over classes and halved, so that for two
    classes it is the usual one. `confusion[t][p]`: images of class t predicted as p.
    `temperature`: what scores are divided by to be calibrated, fitted elsewhere or on these images.
    Thresholds, AUC, reliability and calibration error are of the calibrated probabilities, which are those
    that runs give; `log_loss` and `brier` are of those before. `leading`: the one of two classes that
    sensitivity, specificity and `youden` are for; None where they are means.

    Of findings (`output` is sigmoid) `images` counts those that have each; `auc`, sensitivities and
    specificities are means over findings that can be measured; accuracy, log
    loss, Brier score and reliability are over all pairs of image and finding that are known; and there is no
    confusion matrix. `images_in_all`: how many images that is. `flat`: classes or findings whose probability
    is nearly the same on all images, see `flat_classes`."""

    output: Literal["softmax", "sigmoid"] = "softmax"
    images_in_all: int | None = None
    leading: str | None = None
    classes: tuple[str, ...]
    images: dict[str, int]
    auc: float
    auc_interval: Interval
    accuracy: float
    accuracy_interval: Interval | None = None
    log_loss: float
    brier: float
    expected_calibration_error: float
    temperature: float
    brier_with_temperature: float
    sensitivity: float
    sensitivity_interval: Interval | None = None
    specificity: float
    specificity_interval: Interval | None = None
    youden: Point | None
    specificity_at_sensitivity_90: float
    reliability: tuple[Bin, ...]
    confusion: tuple[tuple[int, ...], ...]
    by_class: dict[str, FindingFigures | ClassFigures]
    flat: tuple[str, ...] = ()


def compute_metrics(
    labels: ArrayLike,
    scores: ArrayLike,
    classes: tuple[str, ...],
    *,
    temperature: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
    output: str = "softmax",
    positive_class: str | None = None,
) -> Metrics:
    """All figures of `scores` (N, classes), before the softmax, or the sigmoid if `output` says so, against
    `labels` (N,), class indices; or before the sigmoid, against `labels` (N, classes) of findings.

    `temperature` from the validation part; None fits it on these images, which then must be that part.
    `positive_class`: the one of two classes that sensitivity is for; None: the second.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    if labels.ndim == 2:
        return _of_findings(labels, scores, classes, temperature, resamples, seed)
    temperature = fit_temperature(labels, scores) if temperature is None else temperature
    before, probabilities = (probabilities_from(scores, output, divisor) for divisor in (1.0, temperature))
    by_class = {name: _against_rest(labels == n, probabilities[:, n]) for n, name in enumerate(classes)}
    lead = leading_index(classes, positive_class)
    leading = list(by_class.values()) if lead is None else [by_class[classes[lead]]]
    bins, error = _reliability(labels, probabilities, lead)
    right = probabilities.argmax(1) == labels
    return Metrics(
        leading=None if lead is None else classes[lead],
        classes=classes,
        images={name: int((labels == n).sum()) for n, name in enumerate(classes)},
        auc=roc_auc(labels, probabilities, lead),
        auc_interval=auc_interval(labels, probabilities, lead, resamples=resamples, seed=seed),
        accuracy=float(right.mean()),
        accuracy_interval=share_interval(int(right.sum()), len(right)),
        log_loss=log_loss(labels, before),
        brier=_brier(labels, before),
        expected_calibration_error=error,
        temperature=temperature,
        brier_with_temperature=_brier(labels, probabilities),
        sensitivity=float(np.mean([c.at_half.sensitivity for c in leading])),
        specificity=float(np.mean([c.at_half.specificity for c in leading])),
        youden=None if lead is None else leading[0].youden,
        specificity_at_sensitivity_90=float(np.mean([c.at_target_sensitivity.specificity for c in leading])),
        reliability=bins,
        confusion=tuple(
            tuple(int(count) for count in row)
            for row in confusion_matrix(labels, probabilities.argmax(1), labels=range(len(classes)))
        ),
        by_class=by_class,
        flat=flat_classes(scores, classes, "softmax"),
        **_intervals_of(lead, labels, probabilities),
    )


def leading_index(classes: Sequence[str], positive_class: str | None) -> int | None:
    """The one of two classes that sensitivity is for; None of more, where it is a mean over all."""
    if len(classes) != 2:
        return None
    return 1 if positive_class is None else list(classes).index(positive_class)


def _intervals_of(lead: int | None, labels: Labels, probabilities: Floats) -> dict[str, Interval]:
    """Of sensitivity and specificity for the class at index `lead`; of means over classes there are none."""
    if lead is None:
        return {}
    said, positive = probabilities[:, lead] > 0.5, labels == lead
    return {
        "sensitivity_interval": share_interval(int(said[positive].sum()), int(positive.sum())),
        "specificity_interval": share_interval(int((~said)[~positive].sum()), int((~positive).sum())),
    }


def _of_findings(
    truth: Floats,
    scores: Floats,
    classes: tuple[str, ...],
    temperature: float | None,
    resamples: int,
    seed: int,
) -> Metrics:
    temperature = fit_temperature(truth, scores) if temperature is None else temperature
    before, probabilities = of_findings.sigmoid(scores), of_findings.sigmoid(scores / temperature)
    by_class = {name: _of_finding(truth[:, n], probabilities[:, n]) for n, name in enumerate(classes)}
    measured = [one for one in by_class.values() if one.present and one.absent]

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else float("nan")

    bins, error = _reliability_bins(*of_findings.known_pairs(truth, probabilities))
    return Metrics(
        output="sigmoid",
        images_in_all=len(truth),
        classes=classes,
        images={name: one.present for name, one in by_class.items()},
        auc=of_findings.mean_auc(truth, probabilities),
        auc_interval=auc_interval(truth, probabilities, resamples=resamples, seed=seed),
        accuracy=of_findings.findings_accuracy(truth, probabilities),
        log_loss=log_loss(truth, before),
        brier=of_findings.findings_brier(truth, before),
        expected_calibration_error=error,
        temperature=temperature,
        brier_with_temperature=of_findings.findings_brier(truth, probabilities),
        sensitivity=mean([one.at_half.sensitivity for one in measured]),
        specificity=mean([one.at_half.specificity for one in measured]),
        youden=None,
        specificity_at_sensitivity_90=mean([one.at_target_sensitivity.specificity for one in measured]),
        reliability=bins,
        confusion=(),
        by_class=dict(by_class),
        flat=flat_classes(scores, classes, "sigmoid"),
    )


def _of_finding(truth: Floats, probability: Floats) -> FindingFigures:
    known = ~np.isnan(truth)
    positive, stated = truth[known] == 1, probability[known]
    counts = {
        "present": int(positive.sum()),
        "absent": int((~positive).sum()),
        "unknown": int((~known).sum()),
    }
    nan = float("nan")
    if not (counts["present"] and counts["absent"]):
        point, none = Point(threshold=nan, sensitivity=nan, specificity=nan), (nan, nan)
        return FindingFigures(
            auc=nan, at_half=point, youden=point, at_target_sensitivity=point, auc_interval=none,
            sensitivity_interval=none, specificity_interval=none, **counts,
        )  # fmt: skip

    said = stated > 0.5
    figures = _against_rest(positive, stated)
    return FindingFigures(
        **figures.model_dump(),
        auc_interval=intervals.auc_interval(figures.auc, counts["present"], counts["absent"]),
        sensitivity_interval=share_interval(int(said[positive].sum()), counts["present"]),
        specificity_interval=share_interval(int((~said)[~positive].sum()), counts["absent"]),
        **counts,
    )


def probabilities_from(scores: ArrayLike, output: str, temperature: float = 1.0) -> Floats:
    """Probabilities float64 (N, classes) of a model whose `output` is softmax or sigmoid."""
    scaled = np.asarray(scores, np.float64) / temperature
    return softmax(scaled) if output == "softmax" else of_findings.sigmoid(scaled)


def softmax(scores: ArrayLike) -> Floats:
    """Probabilities float64 (N, classes)."""
    probabilities: Floats = scipy.special.softmax(np.asarray(scores, np.float64), axis=-1)
    return probabilities


def log_loss(labels: NDArray[Any], probabilities: Floats) -> float:
    """Mean of minus the logarithm of the true class's probability; NaN if a probability is not a number."""
    if labels.ndim == 2:
        return of_findings.findings_log_loss(labels, probabilities)
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-12)).mean())


def roc_auc(labels: ArrayLike, probabilities: Floats, lead: int | None = None) -> float:
    """Of the ROC curve; for more than two classes the mean of each against the rest. NaN when only one
    class is present. `lead`: of two classes the one whose probability counts, which matters where the two do
    not sum to 1; None: the second."""
    labels = np.asarray(labels)
    if labels.ndim == 2:
        return of_findings.mean_auc(labels, probabilities)
    if probabilities.shape[1] == 2:
        lead = 1 if lead is None else lead
        return _auc(labels == lead, probabilities[:, lead])
    return float(np.mean([_auc(labels == n, probabilities[:, n]) for n in range(probabilities.shape[1])]))


def auc_interval(
    labels: ArrayLike,
    probabilities: Floats,
    lead: int | None = None,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95% interval of `roc_auc`: for two classes Newcombe's; for more, where it is a mean, by percentiles
    over images drawn anew within each class, see `worker.intervals.mean_auc_limits`."""
    if np.ndim(labels) == 2:
        return of_findings.mean_auc_interval(labels, probabilities, resamples=resamples, seed=seed)
    labels = np.asarray(labels)
    kinds = [(int((labels == n).sum()), int((labels != n).sum())) for n in range(probabilities.shape[1])]
    if probabilities.shape[1] == 2:
        return intervals.auc_interval(
            roc_auc(labels, probabilities, lead), *kinds[1 if lead is None else lead]
        )
    random = np.random.RandomState(seed)
    found = [
        roc_auc(*resample(labels, probabilities, stratify=labels, random_state=random))
        for _ in range(resamples)
    ]
    areas = [_auc(labels == n, probabilities[:, n]) for n in range(probabilities.shape[1])]
    limits = [intervals.auc_interval(area, *kind) for area, kind in zip(areas, kinds, strict=True)]
    return intervals.mean_auc_limits(limits, found)


def fit_temperature(labels: ArrayLike, scores: ArrayLike) -> float:
    """The temperature T, of 0.05 to 20, for which softmax(scores / T) has the least log loss.

    Guo et al. 2017, arXiv 1706.04599. Of log(T) the loss has one minimum: it is convex in 1 / T.
    """
    if np.ndim(labels) == 2:
        return of_findings.fit_findings_temperature(labels, scores, TEMPERATURES)
    scores, true = np.asarray(scores, np.float64), np.asarray(labels)[:, np.newaxis]

    def loss(log_temperature: float) -> float:
        logs = scipy.special.log_softmax(scores / np.exp(log_temperature), axis=1)
        return float(-np.take_along_axis(logs, true, axis=1).mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(found.x))


_auc = of_findings.rank_auc


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


def _reliability(labels: Labels, probabilities: Floats, lead: int | None) -> tuple[tuple[Bin, ...], float]:
    """Tenths of the probability of the class at index `lead`, or without of the predicted one; and the mean
    distance of predicted and observed over images."""
    if lead is not None:
        stated, right = probabilities[:, lead], labels == lead
    else:
        stated, right = probabilities.max(1), probabilities.argmax(1) == labels
    return _reliability_bins(right, stated)


def _reliability_bins(right: NDArray[Any], stated: Floats) -> tuple[tuple[Bin, ...], float]:
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
    error = sum(b.images * abs(b.predicted - b.observed) for b in bins) / len(stated)
    return bins, float(error)
