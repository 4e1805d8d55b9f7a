"""Figures against numbers worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from worker.train.metrics import auc_interval, compute_metrics, fit_temperature, log_loss, roc_auc, softmax

CLASSES = ("Normal", "Tuberculosis")
LABELS = np.array([0, 0, 0, 1, 1])
PROBABILITY = np.array([0.1, 0.6, 0.3, 0.8, 0.4])


def scores_of(probability: np.ndarray) -> np.ndarray:
    """Two scores whose softmax gives `probability` for the second class."""
    return np.stack([np.zeros_like(probability), np.log(probability / (1 - probability))], axis=1)


def test_figures_of_five_images_by_hand() -> None:
    metrics = compute_metrics(LABELS, scores_of(PROBABILITY), CLASSES, temperature=1.0, resamples=20)
    # Of 3 x 2 pairs only (0.6, 0.4) is in the wrong order.
    assert metrics.auc == pytest.approx(5 / 6)
    assert metrics.accuracy == pytest.approx(3 / 5)
    assert metrics.sensitivity == pytest.approx(1 / 2)
    assert metrics.specificity == pytest.approx(2 / 3)
    assert metrics.confusion == ((2, 1), (1, 1))
    # All of the positive are found from 0.4 down, at the cost of the one at 0.6.
    assert metrics.specificity_at_sensitivity_90 == pytest.approx(2 / 3)
    assert metrics.youden is not None
    assert metrics.youden.threshold == pytest.approx(0.4)
    assert (metrics.youden.sensitivity, metrics.youden.specificity) == pytest.approx((1, 2 / 3))
    assert metrics.brier == pytest.approx((0.01 + 0.36 + 0.09 + 0.04 + 0.36) / 5)
    logs = [0.9, 0.4, 0.7, 0.8, 0.4]
    assert metrics.log_loss == pytest.approx(-sum(math.log(p) for p in logs) / 5)
    # Five tenths with one image each.
    assert metrics.expected_calibration_error == pytest.approx((0.1 + 0.6 + 0.3 + 0.2 + 0.6) / 5)
    assert [b.images for b in metrics.reliability] == [1] * 5


def test_figures_of_classes_with_a_sigmoid_each_are_of_those_probabilities() -> None:
    probabilities = np.array([[0.9, 0.4], [0.2, 0.3], [0.6, 0.7], [0.1, 0.6], [0.3, 0.2]])
    scores = np.log(probabilities / (1 - probabilities))
    metrics = compute_metrics(LABELS, scores, CLASSES, temperature=1.0, output="sigmoid")
    assert metrics.auc == pytest.approx(2 / 6), "0.6 is above 0.4 and 0.3, 0.2 above none of them"
    assert metrics.confusion == ((1, 2), (1, 1)), "the most probable is taken, at whatever probability"
    assert (metrics.sensitivity, metrics.specificity) == pytest.approx((1 / 2, 2 / 3))
    off = probabilities - np.eye(2)[LABELS]
    assert metrics.brier == pytest.approx((off**2).sum(1).mean() / 2)


def test_sensitivity_is_that_for_the_positive_class_where_its_name_comes_first_too() -> None:
    classes, scores = ("COVID", "Normal"), scores_of(PROBABILITY)[:, ::-1]
    led = compute_metrics(1 - LABELS, scores, classes, temperature=1.0, positive_class="COVID")
    same = compute_metrics(LABELS, scores_of(PROBABILITY), CLASSES, temperature=1.0)
    assert (led.leading, same.leading) == ("COVID", "Tuberculosis")
    of_positive = (
        "sensitivity", "specificity", "sensitivity_interval", "specificity_interval", "youden", "auc",
        "auc_interval", "specificity_at_sensitivity_90", "reliability", "expected_calibration_error",
    )  # fmt: skip
    for name in of_positive:
        assert getattr(led, name) == getattr(same, name), name
    unled = compute_metrics(1 - LABELS, scores, classes, temperature=1.0)
    assert (unled.leading, unled.sensitivity) == ("Normal", same.specificity)


def test_thresholds_and_calibration_are_those_of_the_probabilities_that_runs_give() -> None:
    scores = scores_of(PROBABILITY)
    plain, halved = (compute_metrics(LABELS, 2 * scores, CLASSES, temperature=t) for t in (1.0, 2.0))
    assert halved.youden is not None
    assert halved.youden.threshold == pytest.approx(0.4), "the calibrated probability of the fourth image"
    assert halved.by_class["Normal"].youden.threshold == pytest.approx(0.7)
    assert halved.reliability == pytest.approx(
        compute_metrics(LABELS, scores, CLASSES, temperature=1.0).reliability
    )
    assert (halved.auc, halved.sensitivity, halved.brier) == (plain.auc, plain.sensitivity, plain.brier)
    assert halved.expected_calibration_error != plain.expected_calibration_error
    findings = np.eye(2)[LABELS]
    of_findings = compute_metrics(findings, 2 * scores, CLASSES, temperature=2.0, resamples=5)
    assert of_findings.by_class["Tuberculosis"].youden.threshold == pytest.approx(0.4)


def test_figures_survive_json() -> None:
    metrics = compute_metrics(LABELS, scores_of(PROBABILITY), CLASSES, resamples=20)
    assert type(metrics).model_validate(json.loads(metrics.model_dump_json())) == metrics


def test_with_three_classes_each_is_taken_against_the_rest() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    probabilities = np.array(
        [
            [0.8, 0.1, 0.1],
            [0.2, 0.5, 0.3],
            [0.3, 0.6, 0.1],
            [0.1, 0.7, 0.2],
            [0.1, 0.2, 0.7],
            [0.25, 0.25, 0.5],
        ]
    )
    # Class 0: 0.8 is above, 0.2 below two of the four others. Classes 1 and 2: in order throughout.
    assert roc_auc(labels, probabilities) == pytest.approx((6 / 8 + 1 + 1) / 3)
    metrics = compute_metrics(labels, np.log(probabilities), ("a", "b", "c"), temperature=1.0, resamples=20)
    assert metrics.by_class["a"].auc == pytest.approx(6 / 8)
    assert metrics.youden is None
    assert metrics.confusion == ((1, 1, 0), (0, 2, 0), (0, 0, 2))
    # Against one half: class 0 finds one of two, class 1 both, class 2 one of two.
    assert metrics.sensitivity == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)


def test_the_temperature_undoes_a_known_overconfidence() -> None:
    rng = np.random.default_rng(0)
    true_scores = scores_of(rng.uniform(0.02, 0.98, 20_000))
    labels = (rng.random(20_000) < softmax(true_scores)[:, 1]).astype(int)
    assert fit_temperature(labels, 3.0 * true_scores) == pytest.approx(3.0, rel=0.05)
    before = log_loss(labels, softmax(3.0 * true_scores))
    assert log_loss(labels, softmax(true_scores)) < before


def test_a_given_temperature_is_used_and_not_fitted() -> None:
    metrics = compute_metrics(LABELS, scores_of(PROBABILITY), CLASSES, temperature=1.0, resamples=20)
    assert metrics.temperature == 1.0
    assert metrics.brier_with_temperature == pytest.approx(metrics.brier)


def test_the_interval_holds_the_auc_and_narrows_with_more_images() -> None:
    few = softmax(scores_of(PROBABILITY))
    low, high = auc_interval(LABELS, few, resamples=200)
    assert low <= roc_auc(LABELS, few) <= high
    many = auc_interval(np.tile(LABELS, 40), np.tile(few, (40, 1)), resamples=200)
    assert many[1] - many[0] < high - low
    assert many == auc_interval(np.tile(LABELS, 40), np.tile(few, (40, 1)), resamples=200)


def test_only_one_class_has_no_auc() -> None:
    assert math.isnan(roc_auc(np.ones(3, int), softmax(scores_of(PROBABILITY[:3]))))
