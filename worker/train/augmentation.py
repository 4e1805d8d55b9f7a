"""Augmentation: random changes of a radiograph that keep what it shows, repeatable from a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from worker.images.preprocess import Pixels
from worker.images.reader import Radiograph
from worker.model.metadata import Preprocessing
from worker.train.recipe import ChestAugmentation, KerasAugmentation

_BILINEAR = Image.Resampling.BILINEAR
Box = tuple[float, float, float, float]


def augment(
    radiograph: Radiograph,
    preprocessing: Preprocessing,
    settings: ChestAugmentation,
    key: tuple[int, int, int],
    marked: Image.Image | None = None,
) -> tuple[Pixels, Pixels | None]:
    """One augmented copy, uint8 (size, size), and `marked` (mode L) changed alike, or None.

    Equal keys (seed, image, number of the copy) give equal copies. Position first, from the full image and
    with the interpolation of `preprocess`, so that a copy of no change equals it; then intensity; then
    random erasing (Zhong et al. 2020, arXiv 1708.04896).
    """
    rng = np.random.default_rng(key)
    side = preprocessing.size
    box = preprocessing.box(radiograph.width, radiograph.height)
    position = _draw_position(box, settings, rng)
    image = position.apply(radiograph.pixels, side)
    if rng.random() < settings.blur:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2) * side / 224))
    values = _jitter_intensity(np.asarray(image, np.float32) / 255, settings, rng)
    pixels = (values * 255 + 0.5).astype(np.uint8)
    area = None if marked is None else np.array(position.apply(marked, side, black=True))
    for rows, columns, gray in _sample_erasing(side, settings, rng):
        pixels[rows, columns] = gray
        if area is not None:
            area[rows, columns] = 0
    return pixels, area


class KerasAugmenter:
    """The random layers of a `KerasAugmentation`, applied one after the other. One thread at a time."""

    def __init__(self, settings: KerasAugmentation) -> None:
        self._layers = [
            keras.layers.RandomFlip(settings.flip, seed=0),
            keras.layers.RandomRotation(settings.rotation, seed=0),
            keras.layers.RandomContrast(settings.contrast, seed=0),
            keras.layers.RandomZoom(*settings.zoom, seed=0),
            keras.layers.RandomTranslation(*settings.translation, seed=0),
        ]
        self._compiled = tf.function(self._apply, reduce_retracing=True)

    def __call__(self, pixels: NDArray[np.uint8], seed: int) -> NDArray[np.float32]:
        """`pixels` (B, size, size) changed at random, in 0..255 as before. Equal seeds (below 2**32) and
        pixels give equal results, whatever was augmented before."""
        for number, layer in enumerate(self._layers):
            layer.generator.state.assign(np.array([seed, number], np.uint32))
        augmented: NDArray[np.float32] = self._compiled(tf.cast(pixels, tf.float32)).numpy()
        return augmented

    def _apply(self, pixels: Any) -> Any:
        images = pixels[..., tf.newaxis]
        for layer in self._layers:
            images = layer(images, training=True)
        return images[..., 0]


@dataclass(frozen=True)
class _Position:
    """Turned by `angle` degrees, cut to `box`, mirrored. What lies outside is `outside` gray, or, if None,
    what the edge shows."""

    angle: float
    corner: int
    box: Box
    outside: int | None
    mirrored: bool

    def apply(self, image: Image.Image, side: int, *, black: bool = False) -> Image.Image:
        """`image` in this position as `side` x `side`; `black`: nothing is invented outside of it."""
        if abs(self.angle) > 0.3:
            image = image.rotate(self.angle, _BILINEAR, fillcolor=0 if black else self.corner)
        box = self.box
        beyond = max(-box[0], -box[1], box[2] - image.width, box[3] - image.height)
        if beyond > 0:
            more = int(beyond) + 1
            gray = 0 if black else self.outside
            if gray is not None:
                image = ImageOps.expand(image, more, gray)
            else:
                image = Image.fromarray(np.pad(np.asarray(image), more, mode="edge"))
            box = (box[0] + more, box[1] + more, box[2] + more, box[3] + more)
        image = image.resize((side, side), _BILINEAR, box=box, reducing_gap=3.0)
        return ImageOps.mirror(image) if self.mirrored else image


def _draw_position(box: Box, settings: ChestAugmentation, rng: np.random.Generator) -> _Position:
    left, upper, right, lower = box
    part = np.exp(rng.uniform(*np.log(settings.window)))
    stretch = np.exp(rng.uniform(-settings.aspect, settings.aspect) / 2)
    width, height = (right - left) * part * stretch, (lower - upper) * part / stretch
    x = (left + right) / 2 + _offset(right - left, width, settings.shift, rng)
    y = (upper + lower) / 2 + _offset(lower - upper, height, settings.shift, rng)
    return _Position(
        angle=rng.uniform(-settings.rotation, settings.rotation),
        corner=int(rng.integers(0, 30)),
        box=(x - width / 2, y - height / 2, x + width / 2, y + height / 2),
        outside=int(rng.integers(0, 20)) if rng.random() < 0.5 else None,
        mirrored=rng.random() < settings.flip,
    )


def _offset(whole: float, part: float, shift: float, rng: np.random.Generator) -> float:
    """A window smaller than the whole may lie anywhere in it, and `shift` beyond."""
    return float(rng.uniform(-1, 1) * shift * whole + rng.uniform(-0.5, 0.5) * max(0.0, whole - part))


def _jitter_intensity(
    values: NDArray[np.floating[Any]], settings: ChestAugmentation, rng: np.random.Generator
) -> NDArray[np.floating[Any]]:
    """`values`, float32 in 0..1, as another tube, film or screen would show them."""
    values = values ** np.exp(rng.uniform(-settings.gamma, settings.gamma))
    factor = np.exp(rng.uniform(-settings.contrast, settings.contrast))
    middle = values.mean()
    values = (values - middle) * factor + middle + rng.uniform(-settings.brightness, settings.brightness)
    if settings.noise:
        values = values + rng.normal(0, rng.uniform(0, settings.noise), values.shape)
    return np.clip(values, 0, 1)


def _sample_erasing(
    side: int, settings: ChestAugmentation, rng: np.random.Generator
) -> list[tuple[slice, slice, int]]:
    """Rectangles and edges to erase, (rows, columns, gray): markers would give the class away."""
    erased = []
    if rng.random() < settings.erase:
        for _ in range(int(rng.integers(1, 4))):
            height, width = (rng.uniform(0.06, 0.22, 2) * side).astype(int)
            top, left = int(rng.uniform(0, side - height)), int(rng.uniform(0, side - width))
            erased.append((slice(top, top + height), slice(left, left + width), int(rng.integers(0, 256))))
    if rng.random() < settings.border:
        depths = (rng.uniform(0, 0.12, 4) * side).astype(int) * (rng.random(4) < 0.6)
        gray, everything = int(rng.integers(0, 256)), slice(None)
        erased += [
            (slice(None, depths[0]), everything, gray),
            (slice(side - depths[1], None), everything, gray),
            (everything, slice(None, depths[2]), gray),
            (everything, slice(side - depths[3], None), gray),
        ]
    return erased
