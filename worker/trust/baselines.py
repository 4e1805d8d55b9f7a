"""Maps that know nothing of the image, to compare with. No TensorFlow here."""

from __future__ import annotations

from typing import Any

import numpy as np

Maps = np.ndarray[Any, np.dtype[np.float32]]

RANDOM, BLOB = "random map", "centred blob"
_CELLS = 7  # the resolution of a network's last layers
_BLOB_CELLS = 28
_BLOB_WIDTH = 0.2  # standard deviation, as a share of the side


def random_maps(count: int, seed: int = 0) -> Maps:
    """`count` maps of independent uniform cells, float32 (count, 7, 7), as coarse as those of last layers."""
    return np.random.default_rng(seed).random((count, _CELLS, _CELLS), np.float32)


def centred_blobs(count: int) -> Maps:
    """The same Gaussian in the middle of the picture `count` times, float32 (count, 28, 28)."""
    places = (np.arange(_BLOB_CELLS) + 0.5) / _BLOB_CELLS - 0.5
    profile = np.exp(-0.5 * (places / _BLOB_WIDTH) ** 2)
    blob = np.outer(profile, profile)
    return np.repeat((blob / blob.max()).astype(np.float32)[np.newaxis], count, axis=0)


def baseline_maps(count: int) -> dict[str, Maps]:
    """Both, by name."""
    return {RANDOM: random_maps(count), BLOB: centred_blobs(count)}
