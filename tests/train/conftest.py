"""Small synthetic data: dark and bright blobs, told apart in an epoch or two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tests.support.shallow_network import shallow_network
from worker.model.metadata import Head, Preprocessing
from worker.train.recipe import Recipe, Stage

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Writes a labelled folder: `make_folder(Clear=12, Opaque=12)`. Opaque images have a bright disc."""

    def make(**counts: int) -> Path:
        rng = np.random.default_rng(1)
        for class_name, count in counts.items():
            folder = tmp_path / "data" / class_name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                Image.fromarray(_phantom(rng, class_name == "Opaque")).save(folder / f"{number:03}.png")
        return tmp_path / "data"

    return make


@pytest.fixture
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe for a network of few operations, which takes the place of MobileNetV2 in this test."""
    monkeypatch.setattr(keras.applications, "MobileNetV2", shallow_network)
    return Recipe(
        name="tiny",
        preprocessing=Preprocessing(size=64),
        alpha=0.35,
        head=Head(units=16, dropout=0.2, l2=1e-3),
        seed=3,
        min_per_class=4,
        batch=8,
        cached_augmentations=2,
        freeze_until="block_14_add",
        stages=(Stage(epochs=1, learning_rate=1e-2, head_only=True), Stage(epochs=2, learning_rate=1e-3)),
    )


def _phantom(rng: np.random.Generator, opaque: bool) -> np.ndarray:
    rows, columns = np.mgrid[:96, :96]
    pixels = rng.normal(60, 10, (96, 96))
    if opaque:
        row, column = rng.uniform(30, 66, 2)
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < 20**2] += 140
    return np.clip(pixels, 0, 255).astype(np.uint8)
