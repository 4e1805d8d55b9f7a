"""Small synthetic data: dark and bright blobs, told apart in an epoch or two."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.model.metadata import Head, Preprocessing
from worker.train.dataset import LabelledDataset, Split, load_labelled_folder, train_val_split
from worker.train.recipe import Recipe, Stage

MakeFolder = Callable[..., Path]


def write_folder(folder: Path, **counts: int) -> Path:
    """A labelled folder: `write_folder(folder, Clear=12, Opaque=12)`. Opaque images have a bright disc."""
    rng = np.random.default_rng(1)
    for class_name, count in counts.items():
        (folder / class_name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = Image.fromarray(_phantom(rng, class_name == "Opaque"))
            image.save(folder / class_name / f"{number:03}.png")
    return folder


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """`write_folder` in a folder of the test's own."""
    return lambda **counts: write_folder(tmp_path / "data", **counts)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
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


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[LabelledDataset, Split]:
    """28 images, a quarter of them for validation. Shared by the tests of a file: not to be changed."""
    folder = write_folder(tmp_path_factory.mktemp("labelled") / "data", Clear=14, Opaque=14)
    dataset = load_labelled_folder(folder, min_per_class=4)
    return dataset, train_val_split(dataset, share=0.25, seed=0)


def _phantom(rng: np.random.Generator, opaque: bool) -> np.ndarray:
    rows, columns = np.mgrid[:96, :96]
    pixels = rng.normal(60, 10, (96, 96))
    if opaque:
        row, column = rng.uniform(30, 66, 2)
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < 20**2] += 140
    return np.clip(pixels, 0, 255).astype(np.uint8)
