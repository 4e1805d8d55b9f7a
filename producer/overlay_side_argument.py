"""The option --overlay-side: how large overlays are drawn."""

from __future__ import annotations

from typing import Any

import click

from worker.explain.names import FULL, LEAST_SIDE


class OverlaySide(click.ParamType):  # type: ignore[type-arg]  # Click 8.1 has none
    """A number of pixels, or FULL."""

    name = "pixels"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        if value == FULL:
            return FULL
        try:
            side = int(value)
        except ValueError:
            side = 0
        if side < LEAST_SIDE:
            self.fail(
                f"{value!r} is neither {FULL!r} nor a number of pixels from {LEAST_SIDE} on.", param, ctx
            )
        return side
