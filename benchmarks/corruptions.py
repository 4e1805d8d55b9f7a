"""Changed copies of images: what another device, film, screen or export makes of the same chest.

A guess at what other hospitals' images look like, not a substitute for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from worker.images.preprocess import Pixels, preprocess
from worker.images.reader import Radiograph
from worker.model.metadata import Preprocessing

Change = Callable[[Image.Image], Image.Image]
_BILINEAR = Image.Resampling.BILINEAR

MARKERS_HIDDEN = "markers hidden"


def _curve(of: Callable[[float], float]) -> Change:
    table = [round(255 * min(max(of(value / 255), 0.0), 1.0)) for value in range(256)]
    return lambda image: image.point(table)


def _markers_hidden(image: Image.Image) -> Image.Image:
    """The upper 8% and 5% of the other edges, where side markers are, painted in the mean gray."""
    pixels = np.array(image)
    height, width = pixels.shape
    inner = pixels[int(0.08 * height) : int(0.95 * height), int(0.05 * width) : int(0.95 * width)].copy()
    pixels[:] = round(float(pixels.mean()))
    pixels[int(0.08 * height) : int(0.95 * height), int(0.05 * width) : int(0.95 * width)] = inner
    return Image.fromarray(pixels)


def _side_borders(image: Image.Image) -> Image.Image:
    """Black bars of 10% left and right, so that the chest is narrower."""
    return ImageOps.expand(image, (image.width // 10, 0), 0)


def _coarse(image: Image.Image) -> Image.Image:
    """Once reduced to 160 pixels."""
    return image.resize((160, 160), _BILINEAR).resize(image.size, _BILINEAR)


def _cropped(image: Image.Image) -> Image.Image:
    """Collimated: 7% off the sides, 4% above, 6% below."""
    width, height = image.size
    return image.crop((int(0.07 * width), int(0.04 * height), int(0.93 * width), int(0.94 * height)))


CORRUPTIONS: dict[str, Change] = {
    MARKERS_HIDDEN: _markers_hidden,
    "gamma 0.6": _curve(lambda value: value**0.6),
    "gamma 1.6": _curve(lambda value: value**1.6),
    "contrast 0.6": _curve(lambda value: (value - 0.5) * 0.6 + 0.5),
    "contrast 1.5": _curve(lambda value: (value - 0.5) * 1.5 + 0.5),
    "brighter by 0.15": _curve(lambda value: value + 0.15),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(3 * image.width / 512)),
    "160 pixels": _coarse,
    "black side borders": _side_borders,
    "cropped": _cropped,
    "turned 6 degrees": lambda image: image.rotate(6, _BILINEAR),
}


def corrupted_inputs(
    radiographs: Sequence[Radiograph], change: Change, preprocessing: Preprocessing
) -> Pixels:
    """What the network sees of the changed images: uint8 (N, size, size)."""
    seen = []
    for radiograph in radiographs:
        pixels = change(radiograph.pixels)
        copy = replace(radiograph, pixels=pixels, width=pixels.width, height=pixels.height)
        seen.append(preprocess(copy, preprocessing))
    return np.stack(seen)
