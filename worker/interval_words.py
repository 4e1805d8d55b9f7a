"""A figure and its interval, as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def with_interval(value: float | None, interval: Sequence[float | None] | None, places: int = 3) -> str:
    """'0.917 (0.804 to 0.967)', without an interval the value, without a value a dash."""
    if value is None:
        return "-"
    low, high = interval or (None, None)
    between = "" if low is None or high is None else f" ({low:.{places}f} to {high:.{places}f})"
    return f"{value:.{places}f}{between}"


def figure_with_interval(figures: dict[str, Any], name: str) -> str:
    """`name` of `figures`, with what is there as `NAME_interval`."""
    return with_interval(figures[name], figures.get(f"{name}_interval"))
