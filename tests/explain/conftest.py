"""One small model with random weights whose maps are not trivial, and images made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from worker.explain.forward import scale
from worker.images.preprocess import Pixels
from worker.model.metadata import Head, ModelMetadata, Preprocessing
from worker.model.network import build_network, load_model, save_model, spatial_layers

SIZE = 96


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    keras.utils.set_random_seed(7)
    random = np.random.default_rng(7)
    network = build_network(SIZE, 3, Head(dropout=0.1), alpha=0.35)
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.gamma.assign(random.uniform(0.3, 0.6, norm.gamma.shape))
        norm.beta.assign(random.normal(0.5, 0.5, norm.beta.shape))
        norm.momentum = 0.0
    # Untrained statistics let the signal die out on its way; these are those of a batch.
    images = np.stack([shades(SIZE, SIZE, seed) for seed in range(100, 132)])
    network(scale(images, Preprocessing(size=SIZE)), training=True)
    folder = tmp_path_factory.mktemp("models") / "small"
    save_model(
        network,
        folder,
        metadata={
            "version": "small",
            "alpha": 0.35,
            "classes": ("Normal", "Tuberculosis", "Other"),
            "preprocessing": {"size": SIZE},
            "head": {"dropout": 0.1},
            "layers": spatial_layers(network),
            "default_layer": "block_15_add",
            "created": "2025-01-01T00:00:00Z",
        },
    )
    return folder


@pytest.fixture(scope="session")
def model(model_folder: Path) -> tuple[ModelMetadata, Any]:
    """Shared by all tests: not to be changed."""
    return load_model(model_folder)


@pytest.fixture(scope="session")
def batch() -> Pixels:
    """Six images that differ, uint8 (6, SIZE, SIZE)."""
    return np.stack([shades(SIZE, SIZE, seed) for seed in range(6)])


@pytest.fixture
def image_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes an 8-bit gray image made from `seed` and gives its path."""

    def write(name: str = "image.png", width: int = 120, height: int = 80, seed: int = 0) -> Path:
        file = tmp_path / name
        Image.fromarray(shades(width, height, seed)).save(file)
        return file

    return write


def shades(width: int, height: int, seed: int) -> Pixels:
    """Smooth blobs of gray, uint8 (height, width)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
