"""The display shutter of a DICOM file: what lies outside it is not to be looked at (PS3.3, C.7.6.11)."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from worker.images.dicom_header import Elements

Opening = np.ndarray[Any, np.dtype[np.bool_]]

_LEAST_OPEN = 0.1  # of the picture; what leaves less is a mistake
_FARTHEST = 2.0**31  # pixels, as the numbers of a shutter are bounded
_MOST_VERTICES = 1000  # drawing a polygon takes longer with each
_EDGES = (
    "ShutterLeftVerticalEdge", "ShutterUpperHorizontalEdge", "ShutterRightVerticalEdge",
    "ShutterLowerHorizontalEdge",
)  # fmt: skip


def read_shutter(elements: Elements, rows: int, columns: int) -> tuple[Opening | None, tuple[str, ...]]:
    """Where the shutter of a stored matrix is open, booleans (rows, columns), and notes on it. None where
    there is none, where all is open, or where it cannot be read or leaves next to nothing, which is noted.

    Of several shapes that is open which lies in all of them. Rows and columns are counted from 1.
    """
    shapes = [shape.upper() for shape in elements.texts("ShutterShape") if shape]
    if not shapes:
        return None, ()
    is_open = np.ones((rows, columns), bool)
    for shape in dict.fromkeys(shapes):
        one = _open_in(shape, elements, rows, columns)
        if one is None:
            return None, ("its display shutter cannot be read and was left out",)
        is_open &= one
    share = float(is_open.mean())
    if share < _LEAST_OPEN:
        return None, (f"its display shutter leaves {share:.0%} of the picture, and was left out",)
    if share == 1:
        return None, ()
    return is_open, (f"{1 - share:.0%} of it lies outside its display shutter: black",)


def _open_in(shape: str, elements: Elements, rows: int, columns: int) -> Opening | None:
    """Where a shutter of one shape is open; None if it cannot be read. Nothing here takes longer for numbers
    that lie far away."""
    down, across = np.arange(1, rows + 1)[:, np.newaxis], np.arange(1, columns + 1)
    if shape == "RECTANGULAR":
        left, top, right, bottom = (elements.first_float(keyword) for keyword in _EDGES)
        if left is None or top is None or right is None or bottom is None or left > right or top > bottom:
            return None
        return (down >= top) & (down <= bottom) & (across >= left) & (across <= right)
    if shape == "CIRCULAR":
        centre = elements.floats("CenterOfCircularShutter")
        radius = elements.first_float("RadiusOfCircularShutter")
        if len(centre) != 2 or radius is None or radius <= 0 or max(radius, *map(abs, centre)) > _FARTHEST:
            return None
        # Half the open width of each row, rather than the distance of each pixel, in floats of the whole
        # picture.
        square = radius**2 - (down - centre[0]) ** 2
        half = np.where(square < 0, -1.0, np.sqrt(np.abs(square)))
        return np.asarray(np.abs(across - centre[1]) <= half)
    if shape == "POLYGONAL":
        places = elements.floats("VerticesOfThePolygonalShutter")
        if not 6 <= len(places) <= 2 * _MOST_VERTICES or len(places) % 2 or max(map(abs, places)) > 1e6:
            return None
        drawn = Image.new("1", (columns, rows))
        corners = [(column - 1, row - 1) for row, column in zip(places[::2], places[1::2], strict=True)]
        ImageDraw.Draw(drawn).polygon(corners, fill=1)
        return np.asarray(drawn)
    return None
