"""From a finished training to a version that workers serve: the folder, the store, the ledger, the signal."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from db.ledger import Ledger
from db.models import add_model
from worker.errors import ModelError
from worker.input_check.check import InputCheck
from worker.model.metadata import (
    CARD_FILE,
    METRICS_FILE,
    ModelMetadata,
    check_folder,
    digest_of,
    read_metadata,
)
from worker.model.network import save_model, spatial_layers
from worker.model.store import ModelStore
from worker.train.annotations import FindingAnnotations
from worker.train.cam_evaluation import CamEvaluation
from worker.train.check_fitting import add_check
from worker.train.dataset import LabelledDataset
from worker.train.evaluation import EvaluationResult
from worker.train.metrics import compute_metrics
from worker.train.model_card import model_card, training_record
from worker.train.operating_points import score_reference
from worker.train.options import TrainOptions
from worker.train.plots import plot_learning_curves
from worker.train.recipe import Recipe
from worker.train.splits import Split
from worker.train.training import TrainingResult


def save_version(
    trained: TrainingResult,
    dataset: LabelledDataset,
    parts: Split,
    recipe: Recipe,
    folder: Path,
    *,
    version: str,
    default_layer: str,
    default_method: str = "gradcam",
    heat_scales: dict[str, float] | None = None,
    source: Sequence[str] = (),
    positive_class: str | None = None,
    figures: dict[str, Any],
) -> ModelMetadata:
    """Write a training's result as the model folder `folder`, with its card. `figures` go into the record
    beside those of the validation part; `source` says where the images are from, whom to cite. Raises
    ModelError if `folder` exists."""
    validation = compute_metrics(
        dataset.truth(parts.validation), trained.scores, dataset.classes, positive_class=positive_class
    )
    record = training_record(
        dataset,
        parts,
        recipe,
        source=source,
        started_from=trained.started_from,
        history=[asdict(epoch) for epoch in trained.history],
        best_epoch=trained.best_epoch,
        validation=validation,
        earlier=trained.earlier,
    )
    metadata = save_model(
        trained.network,
        folder,
        metadata={
            "version": version,
            "architecture": recipe.architecture,
            "alpha": recipe.alpha,
            "output": dataset.output,
            "classes": dataset.classes,
            "positive_class": positive_class,
            "temperature": validation.temperature,
            **score_reference(
                dataset,
                parts.validation,
                recipe.preprocessing,
                trained.scores,
                positive_class=positive_class,
                temperature=validation.temperature,
            ),
            "preprocessing": recipe.preprocessing,
            "head": recipe.head,
            "layers": spatial_layers(trained.network, recipe.architecture),
            "default_layer": default_layer,
            "default_method": default_method,
            "heat_scales": heat_scales or {},
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "training": {**record, **figures},
        },
    )
    (folder / CARD_FILE).write_text(model_card(metadata), encoding="utf-8")
    return metadata


def find_finished_build(folder: Path, options: TrainOptions) -> Path | None:
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
    trained: TrainingResult,
    parts: Split,
    recipe: Recipe,
    validation: EvaluationResult,
    test: EvaluationResult | None,
    regions: FindingAnnotations | None,
    maps: CamEvaluation,
    source: Sequence[str] = (),
    check: tuple[InputCheck, dict[str, Any]] | None = None,
    positive_class: str | None = None,
) -> Path:
    """Write the model folder of a training, with figures and pictures, below the training's own `folder`.

    Whole or not at all.
    """
    figures = maps.figures | ({} if test is None else {"test": _of_test(test, validation.dataset)})
    if regions is not None:
        figures["findings"] = {
            "file": regions.source.name,
            "images": regions.images,
            "unmatched": regions.unmatched,
        }
    building, ready = folder / "building", folder / "ready"
    shutil.rmtree(building, ignore_errors=True)
    shutil.rmtree(ready, ignore_errors=True)
    save_version(
        trained,
        validation.dataset,
        parts,
        recipe,
        building,
        version=version,
        default_layer=maps.layer,
        default_method=maps.method,
        heat_scales=maps.heat_scales,
        source=source,
        positive_class=positive_class,
        figures=figures,
    )
    if check is not None:
        (building / CARD_FILE).write_text(model_card(add_check(building, *check)), encoding="utf-8")
    plot_learning_curves([asdict(epoch) for epoch in trained.history], building / "learning_curves.png")
    validation.draw(building)
    if test is not None:
        test.draw(building, "test_")
    found = {
        "dataset": str(validation.dataset.root),
        "skipped": validation.skipped,
        "validation": validation.figures,
        "test": figures.get("test"),
        "history": [asdict(epoch) for epoch in trained.history],
    }
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False)
    (building / METRICS_FILE).write_text(text + "\n", encoding="utf-8")
    return building.rename(ready)


def _of_test(test: EvaluationResult, dataset: LabelledDataset) -> dict[str, Any]:
    """With how many images were left out: those of the dataset; and others of its patients, or that the
    version to start from had learned from."""
    known = set(dataset.sha256)
    also = sum(sha256 in known for sha256 in test.dataset.sha256)
    return test.figures | {
        "folder": str(test.dataset.root),
        "skipped": test.skipped,
        "also_in_dataset": also,
        "known_otherwise": len(test.dataset) - len(test.indices) - also,
    }


def publish(ledger: Ledger, store: ModelStore, folder: Path, *, source: str, promote: bool) -> ModelMetadata:
    """Copy a model folder into the store, check the copy, then name it in the ledger.

    Doing it again does no harm. Raises ModelError if the store holds another model of this name.
    """
    metadata = read_metadata(folder)
    digest = digest_of(folder)
    store.publish(folder)
    store.fetch(metadata.version, digest)
    ledger.write(
        add_model,
        version=metadata.version,
        digest=digest,
        classes=metadata.classes,
        source=source,
        metrics=_figures(metadata),
        created_at=metadata.created_at,
        promote=promote,
    )
    return metadata


def _figures(metadata: ModelMetadata) -> dict[str, Any]:
    """What a list of models shows; the rest is in the folder."""
    skipped = ("classes", "reliability", "by_class", "confusion", "youden")
    validation = metadata.training["validation"]
    figures = {name: value for name, value in validation.items() if name not in skipped}
    test = metadata.training.get("test")
    figures |= {"test_auc": test["auc"]} if test else {}
    figures["layer"], figures["method"] = metadata.default_layer, metadata.default_method
    repeated = metadata.training.get("repeatability")
    if repeated is not None:
        figures["repeatability"] = {
            "with": repeated["with"],
            "spearman": repeated["spearman"]["value"],
            "ssim": repeated["ssim"]["value"],
        }
    return figures
