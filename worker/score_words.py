"""Scores and thresholds, 0 to 100, as people read them: never so short that they contradict the decision."""

from __future__ import annotations

from decimal import Decimal

_PLACES = 1
_MOST_PLACES = 15


def score_and_threshold(
    score: float | None, threshold: float | None, places: int = _PLACES
) -> tuple[str, str]:
    """Both with `places` decimals, or with so many more that a score below its threshold reads as such: 27.97
    at 28 is no '28.0'. Empty for None."""
    shown = (_with_places(score, places), _with_places(threshold, places))
    if score is None or threshold is None or score >= threshold or shown[0] != shown[1]:
        return shown
    if places < _MOST_PLACES:
        return score_and_threshold(score, threshold, places + 1)
    return _exact(score), _exact(threshold)


def threshold_words(threshold: float) -> str:
    """With one decimal, or with all that it has: typed back, it is the same threshold."""
    short = _with_places(threshold, _PLACES)
    return short if float(short) == threshold else _exact(threshold)


def _with_places(value: float | None, places: int) -> str:
    return "" if value is None else f"{value:.{places}f}"


def _exact(value: float) -> str:
    return f"{Decimal(repr(float(value))):f}"
