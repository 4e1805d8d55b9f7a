"""Small labelled folders, told apart by a bright disc; a recipe for a small network; real servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from db.ledger import Ledger
from db.migrate import migrate
from tests.support.installation import Installation
from tests.support.servers import Valkey
from tests.support.shallow_network import shallow_network
from worker.model.store import ModelStore, store_of
from worker.settings import Settings, load_settings
from worker.train.dataset import LabelledDataset, load_labelled_folder
from worker.train.recipe import Recipe

MakeFolder = Callable[..., Path]

TINY = Recipe.model_validate(
    {
        "name": "tiny",
        "preprocessing": {"size": 96},
        "alpha": 0.35,
        "head": {"units": 16, "dropout": 0.2, "l2": 1e-3},
        "min_per_class": 4,
        "validation_share": 0.25,
        "batch": 2,
        "cached_augmentations": 0,
        "freeze_until": "block_12_add",
        "stages": [{"epochs": 2, "learning_rate": 1e-3}],
    }
)


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Writes a labelled folder: `make_folder("data", Clear=12, Opaque=12)`. Opaque images have a disc."""

    def make(name: str, seed: int = 1, **counts: int) -> Path:
        random = np.random.default_rng(seed)
        rows, columns = np.mgrid[:96, :96]
        for class_name, count in counts.items():
            folder = tmp_path / name / class_name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.normal(60, 10, (96, 96))
                if class_name == "Opaque":
                    row, column = random.uniform(30, 66, 2)
                    pixels[(rows - row) ** 2 + (columns - column) ** 2 < 20**2] += 140
                image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
                image.save(folder / f"{class_name.lower()}-{number:03}.png")
        return tmp_path / name

    return make


@pytest.fixture
def tiny_recipe(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe, and trainings that are short in this process too: see `short_training.py`."""
    monkeypatch.setattr("keras.applications.MobileNetV2", shallow_network)
    monkeypatch.setattr("worker.map_evaluation.ranking.LAYERS", 1)
    monkeypatch.setattr("worker.train.check_fitting.DRAWN", 64)
    monkeypatch.setattr("worker.train.check_fitting.VALIDATION_DRAWN", 16)
    return TINY


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(TINY.model_dump(mode="json")))
    return file


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Installation]:
    """An installation without servers."""
    made = Installation(tmp_path, lease_timeout=3)
    made.with_short_trainings()
    migrate(made.ledger)
    yield made
    made.stop_all()


@pytest.fixture
def distributed(tmp_path: Path, valkey: Valkey) -> Iterator[Installation]:
    """An installation with a broker of its own."""
    made = Installation(tmp_path, broker_url=valkey.url, lease_timeout=3)
    made.with_short_trainings()
    migrate(made.ledger)
    yield made
    made.stop_all()


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings()


@pytest.fixture
def known(settings: Settings) -> Iterator[Ledger]:
    ledger = Ledger(settings.database)
    migrate(ledger)
    yield ledger
    ledger.close()


@pytest.fixture
def store(settings: Settings) -> ModelStore:
    return store_of(settings)


@pytest.fixture
def dataset(make_folder: MakeFolder) -> LabelledDataset:
    return load_labelled_folder(make_folder("data", Clear=10, Opaque=10), min_per_class=4)
