"""What is printed of a score and its threshold never contradicts the decision."""

from __future__ import annotations

import math

import pytest

from worker.score_words import score_and_threshold, threshold_words


@pytest.mark.parametrize(
    ("score", "threshold", "shown"),
    [
        (27.97, 28.0, ("27.97", "28.00")),
        (28.0, 28.0, ("28.0", "28.0")),
        (28.02, 28.0, ("28.0", "28.0")),
        (12.34, 28.0, ("12.3", "28.0")),
        (27.9531, 27.9532, ("27.9531", "27.9532")),
        (12.34, None, ("12.3", "")),
        (None, 28.0, ("", "28.0")),
        (None, None, ("", "")),
    ],
)
def test_score_below_its_threshold_reads_as_such(
    score: float | None, threshold: float | None, shown: tuple[str, str]
) -> None:
    assert score_and_threshold(score, threshold) == shown


@pytest.mark.parametrize("threshold", [28.0, 100.0, 1e-7, 27.95, 100 / 3])
def test_the_next_number_below_a_threshold_reads_as_below(threshold: float) -> None:
    below = math.nextafter(threshold, -1.0)
    for score, decided in ((below, False), (threshold, True), (math.nextafter(threshold, 101.0), True)):
        shown = score_and_threshold(score, threshold)
        assert (float(shown[0]) >= float(shown[1])) is decided, shown


@pytest.mark.parametrize(
    ("threshold", "shown"),
    [(28.0, "28.0"), (27.95, "27.95"), (100 / 3, "33.333333333333336"), (1e-5, "0.00001")],
)
def test_threshold_can_be_typed_back(threshold: float, shown: str) -> None:
    assert threshold_words(threshold) == shown
    assert float(shown) == threshold
