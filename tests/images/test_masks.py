"""Masks of every kind mark what is seen in them, and what cannot be told is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from worker.errors import ImageError, XraycamError
from worker.images.masks import AnnotationMasks

AREA = np.zeros((64, 48), np.uint8)
AREA[10:40, 5:20] = 1
WHITE = np.full_like(AREA, 255)


def pillow(values: Any, name: str = "a.png", **options: Any) -> Callable[[Path], None]:
    return lambda folder: Image.fromarray(values).save(folder / name, **options)


def paletted(*colours: int) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        image = Image.fromarray(AREA, "P")
        image.putpalette(colours)
        image.save(folder / "a.png")

    return save


def turned(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # a quarter turn to the right
    Image.fromarray(np.rot90(AREA).copy() * 255).save(folder / "a.png", exif=exif)


@pytest.mark.parametrize(
    "save",
    [
        pillow(AREA),
        pillow(AREA * 255),
        pillow(AREA.astype(np.uint16) * 256),
        pillow(np.dstack([AREA * 0, AREA * 0, AREA])),
        pillow(np.dstack([AREA * 0, AREA * 0, AREA * 0, AREA * 255])),
        pillow(np.dstack([WHITE, WHITE, WHITE, AREA * 90])),
        pillow(np.dstack([AREA * 255, AREA * 0, AREA * 0, AREA * 128 + 1])),
        pillow(np.dstack([WHITE, AREA * 255])),
        pillow(AREA * 255, "a.jpg", quality=50),
        paletted(0, 0, 0, 0, 0, 1),
        turned,
        lambda folder: tifffile.imwrite(folder / "a.tif", AREA.astype(np.float32) * 0.4),
    ],
    ids=["1", "255", "16 bits", "faint blue", "black with alpha", "white with alpha", "red with alpha",
         "gray with alpha", "JPEG", "palette", "turned", "fractions"],
)  # fmt: skip
def test_a_mask_marks_what_is_seen_in_it(tmp_path: Path, save: Callable[[Path], None]) -> None:
    save(tmp_path)
    marked = AnnotationMasks(tmp_path).of("x/a.png", (48, 64))
    assert marked is not None
    np.testing.assert_array_equal(np.asarray(marked), AREA * 255)


def test_a_mask_of_several_pages_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([AREA * 0, AREA]), photometric="minisblack")
    with pytest.raises(ImageError, match="several pages"):
        AnnotationMasks(tmp_path).of("x/a.png", (48, 64))


def test_a_mask_of_another_shape_than_its_image_is_refused(tmp_path: Path) -> None:
    pillow(AREA * 255)(tmp_path)
    masks = AnnotationMasks(tmp_path)
    for same in ((480, 640), (470, 640), (512, 512)):
        assert masks.of("x/a.png", same) is not None
    with pytest.raises(ImageError, match="48 x 64 pixels, its image 64 x 48"):
        masks.of("x/a.png", (64, 48))
    file = tmp_path / "regions.json"
    file.write_text(json.dumps({"a.png": {"width": 48, "height": 64, "regions": [{"points": SQUARE}]}}))
    assert AnnotationMasks(file).of("a.png", (96, 128)) is not None
    with pytest.raises(ImageError, match="of a picture of 48 x 64 pixels"):
        AnnotationMasks(file).of("a.png", (128, 96))


SQUARE = [[5, 10], [19, 10], [19, 39], [5, 39]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a.png": {"regions": []}, "a.png": {"regions": []}}', "a.png stands in it twice"),
        (json.dumps({"a.png": {"regions": [{"points": [[0.1, 0.1], [0.5, 0.1], [0.5, 0.6]]}]}}), "fractions"),
        (json.dumps({"a.png": {"regions": [{"points": [*SQUARE, [float("nan"), 3]]}]}}), "nan is no place"),
        (json.dumps({"a.png": {"regions": [{"points": [*SQUARE, [float("-inf"), 3]]}]}}), "is no place"),
    ],
)
def test_outlines_that_would_mark_something_else_are_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "regions.json"
    file.write_text(text)
    with pytest.raises(XraycamError, match=said):
        AnnotationMasks(file)


def test_outlines_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "regions.json"
    file.write_text(json.dumps({"a.png": {"regions": [{"points": SQUARE}]}}), encoding="utf-8-sig")
    marked = AnnotationMasks(file).of("a.png", (48, 64))
    assert marked is not None
    np.testing.assert_array_equal(np.asarray(marked), AREA * 255)
