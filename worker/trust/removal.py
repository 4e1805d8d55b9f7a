"""In which order the places of an image are removed. No TensorFlow here."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker.explain.blend import Heatmap
from worker.explain.heat import enlarged

# Pixels a side of what is removed at once: fine against any map's resolution, and few to sort.
CELL = 4


def removal_ranks(heatmaps: Any, side: int, seed: int = 0) -> Any:
    """For maps (N, h, w) of images `side` pixels wide, the place of each cell in the order from hottest to
    coldest: float32 (N, n, n) in 0..1, 0 first, n = side / CELL.

    Equal heat, as where a map is 0, is ordered at random, the same way for all maps: a blank map gives a
    random order.
    """
    cells = max(1, -(-side // CELL))
    chance = np.random.default_rng(seed).random(cells * cells)
    return np.stack([_ranks(heatmap, cells, chance) for heatmap in heatmaps])


def _ranks(heatmap: Heatmap, cells: int, chance: Any) -> Any:
    heat = enlarged(heatmap, cells, cells).ravel()
    order = np.lexsort((chance, -heat))
    ranks = np.empty(len(order), np.float32)
    ranks[order] = np.arange(len(order), dtype=np.float32) / len(order)
    return ranks.reshape(cells, cells)
