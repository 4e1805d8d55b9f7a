"""From a finished training to a version that workers serve: the folder, the store, the ledger, the signal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from db.ledger import Ledger
from db.models import add_model
from worker.errors import ModelError
from worker.model.description import Description, read_description
from worker.model.integrity import check_folder, digest_of
from worker.model.store import ModelStore
from worker.train.dataset import Labelled
from worker.train.fit import Trained
from worker.train.recipe import Recipe
from worker.train.splitting import Split
from worker.train.starter import save_version
from worker.train_options import TrainOptions

METRICS_FILE = "metrics.json"
DEFAULT_LAYER = "block_15_add"


def ready_folder(folder: Path, options: TrainOptions) -> Path | None:
    """The model folder that an earlier start of this training wrote whole below `folder`, if any."""
    ready = folder / "ready"
    try:
        version = check_folder(ready).version
    except ModelError:
        return None
    return ready if options.version in (None, version) else None


def write_version(
    folder: Path,
    version: str,
    trained: Trained,
    dataset: Labelled,
    parts: Split,
    recipe: Recipe,
    measured: dict[str, Any],
) -> Path:
    """Write the model folder of a training, whole or not at all, below its own `folder`.

    `measured`, in JSON's types, becomes metrics.json, and its part `test` goes into the description.
    """
    building, ready = folder / "building", folder / "ready"
    shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(ready, ignore_errors=True)
    save_version(
        trained,
        dataset,
        parts,
        recipe,
        building,
        version=version,
        default_layer=DEFAULT_LAYER,
        figures={"test": measured["test"]} if measured["test"] else {},
    )
    text = json.dumps(measured, indent=1, ensure_ascii=False, allow_nan=False)
    (building / METRICS_FILE).write_text(text + "\n", encoding="utf-8")
    return building.rename(ready)


def publish(ledger: Ledger, store: ModelStore, folder: Path, *, source: str, promote: bool) -> Description:
    """Copy a model folder into the store, check the copy, then name it in the ledger.

    Doing it again does no harm. Raises ModelError if the store holds another model of this name.
    """
    description = read_description(folder)
    digest = digest_of(folder)
    store.publish(folder)
    store.fetch(description.version, digest)
    add_model(
        ledger,
        version=description.version,
        digest=digest,
        classes=description.classes,
        source=source,
        metrics=_figures(description),
        promote=promote,
    )
    return description


def _figures(description: Description) -> dict[str, Any]:
    """What a list of models shows; the rest is in the folder."""
    left_out = ("classes", "reliability", "by_class", "confusion", "youden")
    validation = description.training["validation"]
    figures = {name: value for name, value in validation.items() if name not in left_out}
    test = description.training.get("test")
    return figures | ({"test_auc": test["auc"]} if test else {})
