"""Intervals with few images, against SciPy's and against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from worker.intervals import (
    auc_interval,
    mean_auc_limits,
    quantile_interval,
    share_interval,
    share_intervals,
)

Z2 = 1.959964**2


@pytest.mark.parametrize(("some", "of"), [(0, 7), (7, 7), (3, 10), (48, 50), (1, 1)])
def test_a_shares_interval_is_wilsons(some: int, of: int) -> None:
    found = binomtest(some, of).proportion_ci(method="wilson")
    assert share_interval(some, of) == pytest.approx((found.low, found.high), abs=1e-12)


def test_wilsons_interval_by_hand_where_none_or_all_are() -> None:
    assert share_interval(0, 6) == pytest.approx((0, Z2 / (6 + Z2)), abs=1e-6)
    assert share_interval(6, 6) == pytest.approx((6 / (6 + Z2), 1), abs=1e-6)
    assert np.isnan(share_intervals([0], [0])).all()


def test_an_areas_interval_solves_newcombes_equation() -> None:
    # With one image of each kind the variance is that of a share of one pair: Wilson's interval of 1 of 1.
    assert auc_interval(1.0, 1, 1) == pytest.approx((1 / (1 + Z2), 1), abs=1e-6)
    for area, present, absent in ((1.0, 10, 10), (0.984, 4, 79), (0.5, 40, 40), (0.0, 3, 50)):
        for limit in auc_interval(area, present, absent):
            spread = 1 + ((present + absent) / 2 - 1) * ((1 - limit) / (2 - limit) + limit / (1 + limit))
            variance = limit * (1 - limit) * spread / (present * absent)
            assert (area - limit) ** 2 == pytest.approx(Z2 * variance, abs=1e-8)
    low, high = auc_interval(1.0, 10, 10)
    assert (round(low, 3), high) == (0.800, 1.0)
    assert all(math.isnan(limit) for limit in auc_interval(math.nan, 0, 3))


def test_an_areas_interval_holds_the_true_area_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(300):
        present, absent = rng.normal(1.812, 1, 6), rng.normal(0, 1, 40)  # area 0.9
        low, high = auc_interval(float((present[:, None] > absent).mean()), 6, 40)
        held += low <= 0.9 <= high
    assert held >= 0.92 * 300


def test_a_mean_of_perfect_areas_is_not_certain() -> None:
    limits = [auc_interval(1.0, 5, 20), auc_interval(1.0, 9, 16)]
    low, high = mean_auc_limits([*limits, (math.nan, math.nan)], [1.0, 1.0, 1.0])
    assert (low, high) == pytest.approx(((limits[0][0] + limits[1][0]) / 2, 1.0))
    assert mean_auc_limits(limits, np.linspace(0, 1, 1001)) == pytest.approx((0.025, 0.975))
    assert mean_auc_limits(limits[:1], [0.4, 0.6]) == limits[0]


def test_a_quantile_is_bounded_by_values_as_the_binomial_distribution_says() -> None:
    assert quantile_interval(np.arange(10.0), 0.1) == (None, 3.0)
    low, high = quantile_interval(np.arange(100.0), 0.1)
    assert low is not None
    assert high is not None
    # At most `low` values are below it with 2.5% or less, and more than `high` are not.
    assert binom(100, 0.1).cdf(low) <= 0.025
    assert binom(100, 0.1).sf(high) <= 0.025
