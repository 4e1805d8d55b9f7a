"""The small model with random weights, and pictures made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from worker.images.preprocess import Pixels
from worker.model.metadata import ModelMetadata
from worker.model.network import load_model

SIZE = 96


@pytest.fixture(scope="session")
def model(small_model: Path) -> tuple[ModelMetadata, Any]:
    """Shared by all tests: not to be changed."""
    return load_model(small_model)


@pytest.fixture(scope="session")
def pixels() -> Pixels:
    """Ten pictures of smooth blobs, uint8 (10, SIZE, SIZE)."""
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (10, 6, 6), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(one).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for one in coarse]
    )
