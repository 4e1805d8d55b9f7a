"""What a display shutter hides is black, and shutters that cannot be meant are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.made_dicom import decode, picture

RECTANGLE = {
    "ShutterShape": "RECTANGULAR",
    "ShutterLeftVerticalEdge": 11,
    "ShutterRightVerticalEdge": 60,
    "ShutterUpperHorizontalEdge": 21,
    "ShutterLowerHorizontalEdge": 80,
}
WINDOW = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}
VALUES = np.maximum(picture(), 64)  # 96 rows, 80 columns, none of them black


def shown(**tags: Any) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    image = decode(VALUES, **{**WINDOW, **tags})
    return np.asarray(image.pixels), image.facts.notes


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_outside_a_rectangle_it_is_black(photometric: str) -> None:
    whole, _ = shown(PhotometricInterpretation=photometric)
    found, notes = shown(PhotometricInterpretation=photometric, **RECTANGLE)
    np.testing.assert_array_equal(found[20:80, 10:60], whole[20:80, 10:60])
    assert found.astype(int).sum() == whole[20:80, 10:60].astype(int).sum()
    assert any("61% of it lies outside its display shutter" in note for note in notes)


def test_outside_a_circle_and_a_polygon_it_is_black() -> None:
    whole, _ = shown()
    circle = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [48, 40], "RadiusOfCircularShutter": 30}
    rows, columns = np.mgrid[1:97, 1:81]
    distance = np.hypot(rows - 48, columns - 40)
    found, _ = shown(**circle)
    np.testing.assert_array_equal(found[distance < 29], whole[distance < 29])
    assert not found[distance > 31].any()
    corners = [20, 10, 20, 70, 80, 70, 80, 10]  # row, column, and so on
    found, _ = shown(ShutterShape="POLYGONAL", VerticesOfThePolygonalShutter=corners)
    np.testing.assert_array_equal(found[20:79, 10:69], whole[20:79, 10:69])
    assert not found[:18].any()
    both, _ = shown(**{**circle, **RECTANGLE, "ShutterShape": ["RECTANGULAR", "CIRCULAR"]})
    assert not both[distance > 31].any()
    assert not both[:20].any()


def test_what_is_hidden_is_not_in_the_range() -> None:
    values = VALUES.copy()
    values[:10] = 4095
    image = decode(values, BitsStored=12, **RECTANGLE)
    inside = np.asarray(image.pixels)[20:80, 10:60]
    assert (inside.min(), inside.max()) == (0, 255)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ShutterRightVerticalEdge": 5},
        {"ShutterRightVerticalEdge": 12},
        {"ShutterRightVerticalEdge": None},
        {"ShutterShape": "BITMAP"},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [1, 1], "RadiusOfCircularShutter": "1e300"},
        {"ShutterShape": ["RECTANGULAR", "CIRCULAR"]},
    ],
)
def test_a_shutter_that_cannot_be_meant_is_left_out_and_told(wrong: dict[str, Any]) -> None:
    whole, _ = shown()
    found, notes = shown(**{**RECTANGLE, **wrong})
    np.testing.assert_array_equal(found, whole)
    assert any("display shutter" in note and "left out" in note for note in notes)


@pytest.mark.parametrize(
    "far",
    [
        {"ShutterRightVerticalEdge": 2**31 - 1, "ShutterLowerHorizontalEdge": 2**31 - 1},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [0, 0], "RadiusOfCircularShutter": 2**31 - 1},
        {"ShutterShape": ["RECTANGULAR"] * 5000},
    ],
)
def test_a_shutter_that_reaches_far_takes_no_longer(far: dict[str, Any]) -> None:
    """Pillow draws a circle of a million pixels across for half a minute."""
    _, notes = shown(**{**RECTANGLE, **far})
    assert not any("left out" in note for note in notes)


def test_a_polygon_of_too_many_vertices_is_left_out_and_told() -> None:
    corners = [value for number in range(2000) for value in (number % 90 + 1, number % 70 + 1)]
    found, notes = shown(ShutterShape="POLYGONAL", VerticesOfThePolygonalShutter=corners)
    np.testing.assert_array_equal(found, shown()[0])
    assert any("display shutter cannot be read" in note for note in notes)
