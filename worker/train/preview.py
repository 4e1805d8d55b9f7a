"""Samples of a labelled folder as the network sees them, plain and augmented, in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from worker.file_names import printable
from worker.train.dataset import LabelledDataset
from worker.train.feature_cache import FeatureCache
from worker.train.recipe import Recipe

TILE_INCHES = 1.9


def draw_samples(dataset: LabelledDataset, count: int, seed: int) -> list[list[int]]:
    """For each class the indices of at most `count` images, drawn at random."""
    random = np.random.default_rng(seed)
    found = []
    for label in range(len(dataset.classes)):
        members = dataset.members(label)
        found.append(sorted(int(i) for i in random.choice(members, min(count, len(members)), replace=False)))
    return found


def draw_preview(dataset: LabelledDataset, recipe: Recipe, chosen: list[list[int]], file: Path) -> None:
    """Write the grid: two rows for each class, a column for each sample."""
    columns = max(len(indices) for indices in chosen)
    figure = Figure(
        figsize=(TILE_INCHES * columns, 2 * TILE_INCHES * 1.15 * len(chosen)), layout="constrained"
    )
    grid = figure.subplots(2 * len(chosen), columns, squeeze=False)
    cache = FeatureCache(dataset, recipe, None, 0)
    for label, indices in enumerate(chosen):
        name = dataset.classes[label]
        for start in range(0, len(indices), recipe.batch):
            part = indices[start : start + recipe.batch]
            _row(grid[2 * label][start:], cache.plain(part), name, [dataset.files[i].name for i in part])
            augmented, _ = cache.augmented(part, [0] * len(part), recipe.seed)
            _row(grid[2 * label + 1][start:], augmented, name, ["augmented"] * len(part))
    for axes in grid.flat:
        axes.axis("off")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def _row(axes: Any, images: Any, name: str, notes: list[str]) -> None:
    for place, pixels, note in zip(axes, images, notes, strict=False):
        place.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        short = printable(Path(note))
        place.set_title(f"{name}\n{short if len(short) <= 24 else '...' + short[-21:]}", fontsize=7)
