"""Whom a run refers."""

from __future__ import annotations

import pytest

from worker.explain.decision import decision


@pytest.mark.parametrize(
    ("score", "threshold", "odd", "decided"),
    [
        (40.0, 40.0, None, "refer"),
        (39.9, 40.0, "", "do-not-refer"),
        (99.0, 40.0, "inverted", "not-decided"),
        (None, 40.0, None, "not-decided"),
        (99.0, None, None, None),
        (99.0, 0.0, None, "refer"),
    ],
)
def test_a_score_from_the_threshold_on_is_referred_unless_it_cannot_be_decided(
    score: float | None, threshold: float | None, odd: str | None, decided: str | None
) -> None:
    assert decision(score, threshold, odd) == decided
