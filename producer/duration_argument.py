"""A duration as an argument of commands."""

from __future__ import annotations

import re
from typing import Any

import click

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_LONGEST = 24 * 3600


class Duration(click.ParamType):  # type: ignore[type-arg]  # Click 8.1 has none
    """`90s`, `10m` or `2h`, up to a day, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"([0-9]{1,6})([smh])", str(value), re.ASCII)
        seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
        if not 1 <= seconds <= _LONGEST:
            self.fail(f"{value!r} is no duration from 1s to 24h; write 90s, 10m or 2h", param, ctx)
        return float(seconds)
