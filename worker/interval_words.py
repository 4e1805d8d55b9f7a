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


def leading_of(figures: dict[str, Any], classes: Sequence[str]) -> str | None:
    """Which one of two classes the sensitivity of a version's `figures` is for; None of a mean."""
    if figures.get("output") == "sigmoid":
        return None
    named: str | None = figures.get("leading")
    return named or (classes[1] if len(classes) == 2 else None)


def of_class(figures: dict[str, Any]) -> str:
    """The same of figures that name their classes, to add to a name: ' for COVID', or ', mean of classes'."""
    leading = leading_of(figures, figures["classes"])
    return ", mean of classes" if leading is None else f" for {leading}"
