"""What is stored with a version about its training: recipe, data, figures. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from worker.train.dataset import Labelled
from worker.train.evaluate import Metrics
from worker.train.recipe import Recipe
from worker.train.splitting import Split


def training_record(
    dataset: Labelled,
    split: Split,
    recipe: Recipe,
    *,
    started_from: str,
    history: Sequence[dict[str, Any]],
    kept: int,
    validation: Metrics,
) -> dict[str, Any]:
    """The `training` field of a model's description, in JSON's types."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "data": {
            "name": dataset.root.resolve().name,
            "digest": dataset.digest,
            "images": dataset.counts(),
            "training": dataset.counts(split.training),
            "validation": dataset.counts(split.validation),
            "left_out": len(dataset.left_out),
        },
        "started_from": started_from,
        "epochs": len(history),
        "kept": kept,
        "last_epoch": dict(history[-1]),
        "validation": validation.model_dump(mode="json"),
    }
