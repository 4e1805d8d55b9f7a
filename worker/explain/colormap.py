"""Colour lookup tables for heatmaps."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

import numpy as np

from worker.errors import XraycamError
from worker.explain.options import Colormap

Table = np.ndarray[Any, np.dtype[np.uint8]]

COLORMAPS: tuple[str, ...] = get_args(Colormap)


@cache
def lookup_table(name: str) -> Table:
    """The colours of heat 0..255 as uint8 (256, 3), read-only. Raises XraycamError with the known names."""
    if name not in COLORMAPS:
        raise XraycamError(f"there is no colour map {name!r}; known are {', '.join(COLORMAPS)}")
    ramp = np.arange(256, dtype=np.uint8)
    if name == "blue-red":
        table = np.stack([ramp, np.zeros_like(ramp), 255 - ramp], axis=1)
    elif name == "gray":
        table = np.stack([ramp, ramp, ramp], axis=1)
    else:
        import matplotlib  # takes a third of a second; not needed by who only asks for the names

        table = matplotlib.colormaps[name](ramp, bytes=True)[:, :3].copy()
    table.flags.writeable = False
    return table
