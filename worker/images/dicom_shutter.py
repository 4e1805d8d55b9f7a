"""The display shutter of a DICOM file: what lies outside it is not to be looked at (PS3.3, C.7.6.11)."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from worker.images.dicom_header import Elements

Opening = np.ndarray[Any, np.dtype[np.bool_]]

_LEAST_OPEN = 0.1  # of the picture; what leaves less is a mistake
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
    opening = Image.new("1", (columns, rows), 1)
    for shape in shapes:
        drawn = Image.new("1", (columns, rows))
        if not _draw(ImageDraw.Draw(drawn), shape, elements):
            return None, ("its display shutter cannot be read and was left out",)
        opening = ImageChops.logical_and(opening, drawn)
    is_open = np.asarray(opening)
    share = float(is_open.mean())
    if share < _LEAST_OPEN:
        return None, (f"its display shutter leaves {share:.0%} of the picture, and was left out",)
    if share == 1:
        return None, ()
    return is_open, (f"{1 - share:.0%} of it lies outside its display shutter: black",)


def _draw(draw: ImageDraw.ImageDraw, shape: str, elements: Elements) -> bool:
    """Draw what is open; whether it could be read."""
    if shape == "RECTANGULAR":
        edges = [elements.first_float(keyword) for keyword in _EDGES]
        left, top, right, bottom = (-1.0 if edge is None else edge - 1 for edge in edges)
        if None in edges or left > right or top > bottom:
            return False
        draw.rectangle((left, top, right, bottom), fill=1)
        return True
    if shape == "CIRCULAR":
        centre = elements.floats("CenterOfCircularShutter")
        radius = elements.first_float("RadiusOfCircularShutter")
        if len(centre) != 2 or radius is None or not 0 < radius < 1e6:
            return False
        row, column = centre[0] - 1, centre[1] - 1
        draw.ellipse((column - radius, row - radius, column + radius, row + radius), fill=1)
        return True
    if shape == "POLYGONAL":
        places = elements.floats("VerticesOfThePolygonalShutter")
        if len(places) < 6 or len(places) % 2 or max(map(abs, places)) > 1e6:
            return False
        draw.polygon(
            [(column - 1, row - 1) for row, column in zip(places[::2], places[1::2], strict=True)], fill=1
        )
        return True
    return False
