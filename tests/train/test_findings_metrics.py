"""Figures of findings, against what is written out by hand or by scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.utils.class_weight import compute_sample_weight

from worker.train.finding_loss import UNKNOWN, finding_weights, findings_loss
from worker.train.findings_metrics import rank_auc
from worker.train.metrics import compute_metrics, fit_temperature, roc_auc

NAN = float("nan")
TRUTH = np.array([[1, 0], [0, NAN], [1, 1], [0, 0], [NAN, 1], [1, 0]], np.float32)
SCORES = np.array([[2.0, -1.0], [0.5, 9.0], [-0.3, 0.4], [-2.0, 0.7], [9.0, 1.5], [1.0, -3.0]])


def chance(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def test_each_finding_is_measured_where_it_is_known() -> None:
    found = compute_metrics(TRUTH, SCORES, ("A", "B"), temperature=2.0, resamples=50)
    known = ~np.isnan(TRUTH)
    areas = [roc_auc_score(TRUTH[known[:, n], n], SCORES[known[:, n], n]) for n in range(2)]
    assert [found.by_class[name].auc for name in "AB"] == pytest.approx(areas)
    assert found.auc == pytest.approx(np.mean(areas))
    assert found.images == {"A": 3, "B": 2}
    assert found.images_in_all == 6
    # A: three have it, two of them at 0.5 or more; two lack it, one of them below.
    assert found.by_class["A"].at_half.sensitivity == pytest.approx(2 / 3)
    assert found.by_class["A"].at_half.specificity == pytest.approx(1 / 2)
    pairs = [(TRUTH[place], SCORES[place]) for place in zip(*np.nonzero(known), strict=True)]
    logs = [-math.log(chance(score) if true else 1 - chance(score)) for true, score in pairs]
    assert found.log_loss == pytest.approx(np.mean(logs))
    assert found.brier == pytest.approx(np.mean([(chance(s) - t) ** 2 for t, s in pairs]))
    assert found.brier_with_temperature == pytest.approx(
        np.mean([(chance(s / 2) - t) ** 2 for t, s in pairs])
    )
    assert found.accuracy == pytest.approx(np.mean([(s > 0) == (t == 1) for t, s in pairs]))
    low, high = found.by_class["A"].auc_interval
    assert 0 <= low <= found.by_class["A"].auc <= high <= 1
    assert found.confusion == ()


def test_a_finding_that_no_image_has_is_not_measured_and_not_in_the_mean() -> None:
    truth = np.column_stack([TRUTH, np.zeros(6)])
    found = compute_metrics(truth, np.column_stack([SCORES, np.ones(6)]), ("A", "B", "C"), resamples=10)
    assert math.isnan(found.by_class["C"].auc)
    assert found.auc == pytest.approx((found.by_class["A"].auc + found.by_class["B"].auc) / 2)


def test_the_temperature_undoes_a_factor_that_all_findings_share() -> None:
    random = np.random.default_rng(4)
    scores = random.normal(0, 2, (8000, 3))
    truth = (random.random(scores.shape) < 1 / (1 + np.exp(-scores))).astype(np.float32)
    truth[random.random(truth.shape) < 0.3] = np.nan
    assert fit_temperature(truth, 3.0 * scores) == pytest.approx(3.0, rel=0.05)


def test_labels_of_one_class_are_measured_as_before() -> None:
    assert roc_auc(np.array([0, 1]), np.array([[0.8, 0.2], [0.3, 0.7]])) == 1.0


def test_weights_are_those_of_balanced_classes() -> None:
    weights = finding_weights(TRUTH)
    column = TRUTH[:, 0][~np.isnan(TRUTH[:, 0])]
    balanced = compute_sample_weight("balanced", column)
    assert weights[1, 0] == pytest.approx(balanced[column == 1][0])
    assert weights[0, 0] == pytest.approx(balanced[column == 0][0])


def test_the_loss_is_the_weighted_cross_entropy_of_what_is_known() -> None:
    targets = np.where(np.isnan(TRUTH), UNKNOWN, TRUTH).astype(np.float32)
    weights = np.array([[0.5, 2.0], [3.0, 1.5]])
    found = findings_loss(weights, 0.1)(targets, SCORES.astype(np.float32)).numpy()
    for row in range(len(TRUTH)):
        expected = 0.0
        for n in range(2):
            if not np.isnan(TRUTH[row, n]):
                there, p = int(TRUTH[row, n]), chance(SCORES[row, n])
                smooth = 0.9 * there + 0.05
                cross_entropy = -smooth * math.log(p) - (1 - smooth) * math.log(1 - p)
                expected += weights[there, n] * cross_entropy
        assert found[row] == pytest.approx(expected / 2, rel=1e-5)


def test_the_area_from_ranks_is_scikit_learns_with_ties_too() -> None:
    rng = np.random.default_rng(8)
    for count in (2, 3, 40, 500):
        positive = np.arange(count) % 3 == 0
        values = np.round(rng.normal(positive, 1.0), 1)
        assert rank_auc(positive, values) == pytest.approx(roc_auc_score(positive, values), abs=1e-12)
    assert math.isnan(rank_auc(np.ones(4, bool), np.arange(4.0)))


def test_none_of_seven_is_no_certain_sensitivity_of_zero() -> None:
    truth = np.column_stack([np.arange(40) < 7, np.arange(40) % 2]).astype(float)
    scores = np.column_stack([np.linspace(-1, -2, 40), truth[:, 1] * 2 - 1])
    rare = compute_metrics(truth, scores, ("Rare", "Common"), resamples=20).by_class["Rare"]
    assert rare.at_half.sensitivity == 0.0
    # Wilson by hand: centre (0 + z*z/2) / (7 + z*z), from there to twice as far, z = 1.96.
    assert rare.sensitivity_interval == pytest.approx((0.0, 3.8416 / (7 + 3.8416)), abs=1e-3)
    assert rare.specificity_interval == pytest.approx((33 / (33 + 3.8416), 1.0), abs=1e-3)
