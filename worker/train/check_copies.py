"""Copies of radiographs for a check to learn from: as elsewhere, turned, inverted, mirrored, cut."""

from __future__ import annotations

import numpy as np
from PIL import Image

from worker.images.preprocess import Pixels, preprocess
from worker.images.reader import Radiograph
from worker.model.metadata import Preprocessing
from worker.train.augmentation import augment
from worker.train.recipe import ChestAugmentation

# Wider than what a classifier is trained with: other exposures, screens and frames must not look odd.
_OTHER_HOSPITALS = ChestAugmentation(
    flip=0.0, rotation=8.0, window=(0.75, 1.2), gamma=0.6, contrast=0.5, brightness=0.15, border=0.5
)


def changed(radiograph: Radiograph, preprocessing: Preprocessing, key: tuple[int, int, int]) -> Pixels:
    """`radiograph` as another hospital might show it: uint8 (size, size); equal keys give equal copies."""
    return augment(radiograph, preprocessing, _OTHER_HOSPITALS, key)[0]


def turned(pixels: Pixels, quarters: int) -> Pixels:
    """Turned clockwise by so many quarters of a full turn."""
    return np.ascontiguousarray(np.rot90(pixels, -quarters))


def inverted(pixels: Pixels) -> Pixels:
    """Black and white exchanged."""
    return np.asarray(255 - pixels)


def mirrored(pixels: Pixels) -> Pixels:
    """Left and right exchanged."""
    return np.ascontiguousarray(pixels[:, ::-1])


def piece(radiograph: Radiograph, size: int, rng: np.random.Generator) -> Pixels:
    """A small part of a radiograph, at any angle, enlarged: bones and soft parts, but no chest."""
    image = radiograph.pixels
    if rng.random() < 0.5:
        image = image.rotate(rng.uniform(0, 360), Image.Resampling.BILINEAR)
    side = rng.uniform(0.15, 0.36) * min(image.size)
    x, y = rng.uniform(0, image.width - side), rng.uniform(0, image.height - side)
    part = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side)))
    return inverted(part) if rng.random() < 0.3 else part


def shuffled(radiograph: Radiograph, preprocessing: Preprocessing, rng: np.random.Generator) -> Pixels:
    """The fields of a board laid over a radiograph, in another order: its texture, but no body."""
    size, fields = preprocessing.size, int(rng.choice([2, 3, 4, 7]))
    edge = size // fields
    board = preprocess(radiograph, preprocessing)[: edge * fields, : edge * fields]
    parts = board.reshape(fields, edge, fields, edge).swapaxes(1, 2).reshape(-1, edge, edge)
    mixed = parts[rng.permutation(len(parts))].reshape(fields, fields, edge, edge).swapaxes(1, 2)
    image = Image.fromarray(np.ascontiguousarray(mixed.reshape(edge * fields, edge * fields)))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))
