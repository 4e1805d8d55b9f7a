"""Versions with random weights, and their scores written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from db.ledger import Ledger
from db.models import add_model
from worker.images.preprocess import preprocess
from worker.model.metadata import digest_of
from worker.model.network import build_network, load_model, save_model, spatial_layers
from worker.model.store import ModelStore
from worker.train.dataset import LabelledDataset
from worker.train.recipe import Recipe


def make_version(folder: Path, version: str, recipe: Recipe, classes: tuple[str, ...]) -> Path:
    """A model folder with random weights, the same each time."""
    keras.utils.set_random_seed(7)
    network = build_network(recipe.preprocessing.size, len(classes), recipe.head, recipe.alpha)
    save_model(
        network,
        folder,
        metadata={
            "version": version,
            "alpha": recipe.alpha,
            "classes": classes,
            "preprocessing": recipe.preprocessing,
            "head": recipe.head,
            "layers": spatial_layers(network),
            "default_layer": "block_15_add",
            "temperature": 1.5,
            "created": "2025-01-01T00:00:00Z",
            "training": {"validation": {"auc": 0.5, "temperature": 1.5}},
        },
    )
    return folder


def make_current(ledger: Ledger, store: ModelStore, folder: Path, version: str, classes: Any) -> None:
    store.publish(folder)
    ledger.write(
        add_model,
        version=version,
        digest=digest_of(folder),
        classes=classes,
        source="a test",
        metrics={},
        promote=True,
    )


def reference_scores(folder: Path, dataset: LabelledDataset) -> Any:
    """Scores one image at a time, written out."""
    description, network = load_model(folder)
    assert description.preprocessing.scale == "symmetric"
    scores = []
    for index in range(len(dataset)):
        gray = preprocess(dataset.radiograph(index), description.preprocessing).astype(np.float32)
        image = np.repeat((gray / 127.5 - 1)[None, :, :, None], 3, axis=3)
        scores.append(network.predict(image, verbose=0)[0])
    return np.array(scores)
