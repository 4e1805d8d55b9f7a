"""`xraycam results` refuses filters that no image can meet together, and no others."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import click
import pytest

from producer.result_filters import check_filters

# What an image of each status has.
POSSIBLE: dict[str, set[str]] = {
    "done": {"class_name", "min_probability", "min_score"},
    "failed": {"reason"},
    "pending": set(),
    "cancelled": set(),
}
VALUES: dict[str, Any] = {"class_name": "TB", "min_probability": 0.0, "min_score": 0.0, "reason": "empty"}


@pytest.mark.parametrize("status", [None, *POSSIBLE])
def test_what_excludes_each_other_is_refused_and_nothing_else(status: str | None) -> None:
    allowed = [POSSIBLE[status]] if status is not None else list(POSSIBLE.values())
    for count in range(len(VALUES) + 1):
        for names in combinations(VALUES, count):
            wanted = dict.fromkeys(VALUES) | {name: VALUES[name] for name in names} | {"status": status}
            if any(set(names) <= has for has in allowed):
                check_filters(wanted)
                continue
            with pytest.raises(
                click.UsageError, match=r"^--[a-z-]+ goes with no --(status \w+|reason): only|im"
            ):
                check_filters(wanted)
