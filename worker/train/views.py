"""What the learning part of the network is fed: images as they are, and augmented views of them.

Layers that keep their weights give the same output for the same view; it is computed once and kept.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from worker.explain.forward import scale
from worker.images.preprocess import Pixels, preprocess
from worker.train.annotations import FindingAnnotations
from worker.train.augment import chest_view
from worker.train.dataset import LabelledDataset
from worker.train.random_layers import RandomLayers
from worker.train.recipe import ChestAugmentation, KerasAugmentation, Recipe

Features = np.ndarray[Any, Any]
_View = tuple[Features, Features]


REGION_GRID = 28  # cells to a side in which marked areas are kept


class Views:
    """Features of images, by index in the dataset, and of their augmented views, by number.

    Features are float16 (B, h, w, C), the output of `front`; without a front they are the pixels,
    (B, size, size) in 0..255.
    """

    def __init__(
        self,
        dataset: LabelledDataset,
        recipe: Recipe,
        front: Any | None,
        memory: int,
        regions: FindingAnnotations | None = None,
    ) -> None:
        """`memory`: bytes that kept features may take."""
        self._regions = regions
        self._dataset, self._recipe = dataset, recipe
        self._left = memory
        self._kept: dict[tuple[int, int], _View] = {}
        self._pool = ThreadPoolExecutor(os.cpu_count())
        self._forward = None if front is None else _compiled(front, recipe)
        self._random_layers = (
            RandomLayers(recipe.augmentation, recipe.seed)
            if isinstance(recipe.augmentation, KerasAugmentation)
            else None
        )

    def begin_epoch(self, key: int) -> None:
        """Make what is random in this epoch depend on `key` alone, not on the epochs before it."""
        if self._random_layers is not None:
            self._random_layers.begin_epoch(key)

    def plain(self, indices: Sequence[int]) -> Features:
        """Features of the images at `indices` as they are when predicting."""
        step = self._recipe.batch
        parts = []
        for start in range(0, len(indices), step):
            pixels = list(self._pool.map(self._input, indices[start : start + step]))
            parts.append(self._features(np.stack(pixels)))
        return np.concatenate(parts)

    def augmented(self, indices: Sequence[int], numbers: Sequence[int]) -> tuple[Features, Features | None]:
        """At most one batch: the view `numbers[i]` of the image `indices[i]`, and what it shows of the marked
        areas: float32 (B, 28, 28), the share of each cell, -1 where nobody looked; None without regions."""
        if self._random_layers is not None:
            pixels = np.stack(list(self._pool.map(self._input, indices)))
            return self._features(self._random_layers(pixels)), None
        keys = [(int(index), int(number)) for index, number in zip(indices, numbers, strict=True)]
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        fresh: dict[tuple[int, int], _View] = {}
        if missing:
            drawn = list(self._pool.map(self._view, missing))
            features = self._features(np.stack([pixels for pixels, _ in drawn]))
            areas = [area for _, area in drawn]
            fresh = dict(zip(missing, zip(features, areas, strict=True), strict=True))
            self._keep(fresh)
        batch = [fresh[key] if key in fresh else self._kept[key] for key in keys]
        seen = None if self._regions is None else np.stack([area for _, area in batch])
        return np.stack([feature for feature, _ in batch]), seen

    def _keep(self, fresh: dict[tuple[int, int], _View]) -> None:
        for key, (feature, area) in fresh.items():
            if self._recipe.views and feature.nbytes <= self._left:
                self._left -= feature.nbytes
                self._kept[key] = (feature.copy(), area)

    def _input(self, index: int) -> Pixels:
        return preprocess(self._dataset.radiograph(int(index)), self._recipe.preprocessing)

    def _view(self, key: tuple[int, int]) -> _View:
        recipe = self._recipe
        if not isinstance(recipe.augmentation, ChestAugmentation):
            return self._input(key[0]), _cells(None)
        marked = None if self._regions is None else self._regions.of(key[0])
        pixels, area = chest_view(
            self._dataset.radiograph(key[0]),
            recipe.preprocessing,
            recipe.augmentation,
            (recipe.seed, *key),
            marked,
        )
        return pixels, _cells(area)

    def _features(self, pixels: Any) -> Features:
        if self._forward is None:
            return np.asarray(pixels)
        # Always the same batch size: on some machines the last digits of a result depend on it.
        padded = np.zeros((self._recipe.batch, *pixels.shape[1:]), pixels.dtype)
        padded[: len(pixels)] = pixels
        features: Features = self._forward(padded).numpy()[: len(pixels)]
        return features


def _cells(area: Pixels | None) -> Features:
    """The share of each cell that is marked; -1: not known."""
    if area is None:
        return np.full((REGION_GRID, REGION_GRID), -1, np.float32)
    small = Image.fromarray(area).resize((REGION_GRID, REGION_GRID), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255


def _compiled(front: Any, recipe: Recipe) -> Any:
    def forward(pixels: Any) -> Any:
        return tf.cast(front(scale(pixels, recipe.preprocessing), training=False), tf.float16)

    return tf.function(forward, reduce_retracing=True)
