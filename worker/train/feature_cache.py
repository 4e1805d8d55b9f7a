"""What the trainable part of the network is fed: features of images as they are, and of augmented copies.

Frozen layers give the same output for the same copy; it is computed once and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from PIL import Image

from worker.explain.forward import scale
from worker.images.preprocess import Pixels, preprocess
from worker.processors import usable_processors
from worker.train.annotations import FindingAnnotations
from worker.train.augmentation import KerasAugmenter, augment
from worker.train.dataset import LabelledDataset
from worker.train.recipe import ChestAugmentation, KerasAugmentation, Recipe

AREA_GRID = 28  # cells to a side in which marked areas are kept

Features = NDArray[Any]  # float16 or uint8, or float32 where Keras's random layers changed the pixels
Areas = NDArray[np.float32]
Indices = Sequence[int] | NDArray[np.int64]
_Copy = tuple[Features, Areas]


class FeatureCache:
    """Features of images, by index in the dataset, and of their augmented copies, by number.

    Features are float16 (B, h, w, C), the output of `frozen`; without a frozen part they are the pixels,
    (B, size, size) in 0..255.
    """

    def __init__(
        self,
        dataset: LabelledDataset,
        recipe: Recipe,
        frozen: Any | None,
        memory: int,
        regions: FindingAnnotations | None = None,
    ) -> None:
        """`memory`: bytes that kept features may take."""
        self._regions = regions
        self._dataset, self._recipe = dataset, recipe
        self._memory_left = memory
        self._cached: dict[tuple[int, int], _Copy] = {}
        self._pool = ThreadPoolExecutor(usable_processors())
        self._forward = None if frozen is None else _compiled(frozen, recipe)
        self._keras_augmenter = (
            KerasAugmenter(recipe.augmentation)
            if isinstance(recipe.augmentation, KerasAugmentation)
            else None
        )

    def plain(self, indices: Sequence[int]) -> Features:
        """Features of the images at `indices` as they are when predicting."""
        step = self._recipe.batch
        parts = []
        for start in range(0, len(indices), step):
            pixels = list(self._pool.map(self._input, indices[start : start + step]))
            parts.append(self._features(np.stack(pixels)))
        return np.concatenate(parts)

    def augmented(
        self,
        indices: Indices,
        numbers: Indices,
        seed: int,
    ) -> tuple[Features, Areas | None]:
        """At most one batch: the copy `numbers[i]` of the image `indices[i]`, and what it shows of the marked
        areas: float32 (B, 28, 28), the share of each cell, -1 where nobody looked; None without regions.

        Keras's random layers have no numbered copies: they change the batch as `seed` says.
        """
        if self._keras_augmenter is not None:
            pixels = np.stack(list(self._pool.map(self._input, indices)))
            return self._features(self._keras_augmenter(pixels, seed)), None
        keys = [(int(index), int(number)) for index, number in zip(indices, numbers, strict=True)]
        missing = [key for key in dict.fromkeys(keys) if key not in self._cached]
        fresh: dict[tuple[int, int], _Copy] = {}
        if missing:
            drawn = list(self._pool.map(self._copy, missing))
            features = self._features(np.stack([pixels for pixels, _ in drawn]))
            areas = [area for _, area in drawn]
            fresh = dict(zip(missing, zip(features, areas, strict=True), strict=True))
            self._keep(fresh)
        batch = [fresh[key] if key in fresh else self._cached[key] for key in keys]
        marked = None if self._regions is None else np.stack([area for _, area in batch])
        return np.stack([feature for feature, _ in batch]), marked

    def _keep(self, fresh: dict[tuple[int, int], _Copy]) -> None:
        for key, (feature, area) in fresh.items():
            if self._recipe.cached_augmentations and feature.nbytes <= self._memory_left:
                self._memory_left -= feature.nbytes
                self._cached[key] = (feature.copy(), area)

    def _input(self, index: int) -> Pixels:
        return preprocess(self._dataset.radiograph(int(index)), self._recipe.preprocessing)

    def _copy(self, key: tuple[int, int]) -> _Copy:
        recipe, radiograph = self._recipe, self._dataset.radiograph(key[0])
        assert isinstance(recipe.augmentation, ChestAugmentation)
        marked = None if self._regions is None else self._regions.of(key[0])
        copy = (recipe.seed, *key)
        pixels, area = augment(radiograph, recipe.preprocessing, recipe.augmentation, copy, marked)
        return pixels, _cells(area)

    def _features(self, pixels: NDArray[Any]) -> Features:
        if self._forward is None:
            return pixels
        # Always the same batch size: on some machines the last digits of a result depend on it.
        padded = np.zeros((self._recipe.batch, *pixels.shape[1:]), pixels.dtype)
        padded[: len(pixels)] = pixels
        features: Features = self._forward(padded).numpy()[: len(pixels)]
        return features


def _cells(area: Pixels | None) -> Areas:
    """The share of each cell that is marked; -1: not known."""
    if area is None:
        return np.full((AREA_GRID, AREA_GRID), -1, np.float32)
    small = Image.fromarray(area).resize((AREA_GRID, AREA_GRID), Image.Resampling.BOX)
    shares: Areas = np.asarray(small, np.float32) / np.float32(255)
    return shares


def _compiled(frozen: Any, recipe: Recipe) -> Any:
    def forward(pixels: Any) -> Any:
        return tf.cast(frozen(scale(pixels, recipe.preprocessing), training=False), tf.float16)

    return tf.function(forward, reduce_retracing=True)
