"""Drift is said where it is of a size that matters, and more than chance would give."""

from __future__ import annotations

import math

import numpy as np
import pytest

from worker.model.drift import shift
from worker.model.score_reference import Distribution

HALVES = Distribution(edges=(10.0, 20.0), shares=(0.5, 0.25, 0.25), images=1000)
TENTHS = Distribution(edges=tuple(float(edge) for edge in range(10, 100, 10)), shares=(0.1,) * 10, images=80)


def test_psi_and_ks_are_as_worked_out_by_hand() -> None:
    # 20, 30 and 50 of 100 images, where 50, 25 and 25 were expected.
    found = shift(HALVES, [20, 50], 100)
    assert found is not None
    by_hand = -0.3 * math.log(0.2 / 0.5) + 0.05 * math.log(0.3 / 0.25) + 0.25 * math.log(0.5 / 0.25)
    assert found.psi == pytest.approx(by_hand)
    assert found.ks == pytest.approx(0.3)
    assert found.is_large


def test_an_empty_bin_counts_as_half_an_image() -> None:
    found = shift(HALVES, [0, 100], 100)
    assert found is not None
    by_hand = (
        (0.005 - 0.5) * math.log(0.005 / 0.5)
        + (1 - 0.25) * math.log(1 / 0.25)
        + (0.005 - 0.25) * math.log(0.005 / 0.25)
    )
    assert found.psi == pytest.approx(by_hand)


def test_few_images_say_nothing() -> None:
    assert shift(HALVES, [0, 0], 29) is None


def test_images_drawn_from_the_same_are_seldom_said_to_have_moved() -> None:
    random = np.random.default_rng(5)
    alarms = 0
    for _ in range(200):
        reference = np.sort(random.uniform(0, 100, 80))
        edges = np.quantile(reference, np.arange(1, 10) / 10)
        values = random.uniform(0, 100, 60)
        distribution = Distribution(edges=tuple(edges.tolist()), shares=(0.1,) * 10, images=80)
        found = shift(distribution, [int((values < edge).sum()) for edge in edges], 60)
        assert found is not None
        alarms += found.is_large
    assert alarms <= 20  # of 200: each measure alone errs in one of twenty


def test_a_small_change_of_many_images_is_not_large() -> None:
    counts = np.cumsum([10_500, 9_500, *[10_000] * 7])
    found = shift(TENTHS.model_copy(update={"images": 100_000}), counts.tolist(), 100_000)
    assert found is not None
    assert not found.is_large
