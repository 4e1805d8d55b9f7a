"""k-fold cross-validation of a recipe, with where the heat falls and how figures hold on changed copies.

    python -m benchmarks.cross_validation ../shared/data/shenzhen --recipe default \\
        --init-weights ../shared/weights/mobilenet_v2_imagenet_notop.weights.h5 --out default.json

Every image is judged, and explained, by a network that has not seen it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corruptions import CORRUPTIONS, corrupted_inputs
from benchmarks.placement import mask_in_input, placement
from worker.errors import XraycamError
from worker.explain.explainer import Explainer
from worker.images.preprocess import preprocess
from worker.train.annotations import FindingAnnotations, find_annotations
from worker.train.cam_evaluation import unsaved_metadata
from worker.train.dataset import LabelledDataset, load_labelled_folder
from worker.train.metrics import compute_metrics, roc_auc, softmax
from worker.train.recipe import Recipe, recipe_named
from worker.train.splits import fold_splits
from worker.train.training import Epoch, Trainer

LAYERS = (
    "block_12_add",
    "block_13_project_BN",
    "block_14_add",
    "block_15_add",
    "block_16_project_BN",
    "out_relu",
)


def main() -> None:
    """Run all folds and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path, help="a folder with one sub-folder per class")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--init-weights", default="imagenet", help="imagenet, a file, or a model folder")
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    parser.add_argument(
        "--regions", type=Path, help="marked findings; default: regions*.json or lesions*.json"
    )
    parser.add_argument("--lungs", type=Path, help="a folder of lung masks, for measuring only")
    parser.add_argument("--out", type=Path, help="JSON file; default: cross_validation_RECIPE.json")
    arguments = parser.parse_args()
    recipe = recipe_named(arguments.recipe)
    dataset = load_labelled_folder(
        arguments.dataset, min_per_class=max(recipe.min_per_class, arguments.folds)
    )
    source = arguments.regions or find_annotations(arguments.dataset)
    regions = None if source is None else FindingAnnotations(source, dataset)
    lungs = None if arguments.lungs is None else FindingAnnotations(arguments.lungs, dataset)
    print(f"{len(dataset)} images, {dataset.counts()}; findings: {source or 'not marked'}", flush=True)
    figures = cross_validate(
        dataset, recipe, arguments.folds, arguments.init_weights, regions, lungs, arguments.seed
    )
    out = arguments.out or Path(f"cross_validation_{recipe.name}.json")
    out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(f"mean AUC {figures['mean_auc']:.4f}, pooled {figures['pooled']['auc']:.4f}; all figures in {out}")


def cross_validate(
    dataset: LabelledDataset,
    recipe: Recipe,
    folds: int,
    init_weights: str,
    regions: FindingAnnotations | None,
    lungs: FindingAnnotations | None,
    seed: int,
) -> dict[str, Any]:
    """Figures in JSON's types; heat only for images on which `regions` or `lungs` mark something."""
    trainer = Trainer(dataset, recipe, init_weights=init_weights, regions=regions)
    labels = np.array(dataset.labels)
    scores = np.zeros((len(dataset), len(dataset.classes)))
    changed = {name: np.zeros_like(scores) for name in CORRUPTIONS}
    heat: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    fold_figures = []
    for number, parts in enumerate(fold_splits(dataset, folds=folds, seed=seed), 1):
        started = time.monotonic()
        trained = trainer.fit(parts, progress=_tell)
        seconds = time.monotonic() - started
        held_out = list(parts.validation)
        scores[held_out] = trained.scores
        described = unsaved_metadata(trained.network, dataset.classes, recipe, f"fold-{number}")
        explainer = Explainer(described, trained.network, LAYERS)
        for name, change in CORRUPTIONS.items():
            radiographs = [dataset.radiograph(index) for index in held_out]
            inputs = corrupted_inputs(radiographs, change, recipe.preprocessing)
            changed[name][held_out] = _scores(explainer, inputs)
        _explain(explainer, dataset, recipe, held_out, {"findings": regions, "lungs": lungs}, heat)
        auc = roc_auc(labels[held_out], softmax(trained.scores))
        fold_figures.append({"auc": auc, "images": len(held_out), "seconds": round(seconds, 1)})
        print(f"fold {number}/{folds}: AUC {auc:.4f} in {seconds:.0f} s", flush=True)
    aucs = [fold["auc"] for fold in fold_figures]
    pooled = compute_metrics(labels, scores, dataset.classes)
    return {
        "recipe": recipe.model_dump(mode="json"),
        "dataset": {
            "name": dataset.root.resolve().name,
            "digest": dataset.digest,
            "images": dataset.counts(),
        },
        "started_from": trainer.started_from,
        "fold_seed": seed,
        "findings_used_in_training": trainer.regions is not None,
        "epoch_chosen_on_held_out_images": recipe.monitor != "last" or recipe.patience > 0,
        "folds": fold_figures,
        "fold_auc": aucs,
        "mean_auc": float(np.mean(aucs)),
        "pooled": pooled.model_dump(mode="json"),
        "pooled_auc_on_changed_copies": {
            name: roc_auc(labels, softmax(values)) for name, values in changed.items()
        },
        "heat": {
            kind: {
                layer: placement(*zip(*pairs, strict=True)).model_dump(mode="json")
                for layer, pairs in by_layer.items()
            }
            for kind, by_layer in heat.items()
        },
    }


def _explain(
    explainer: Explainer,
    dataset: LabelledDataset,
    recipe: Recipe,
    held_out: list[int],
    kinds: dict[str, FindingAnnotations | None],
    heat: dict[str, dict[str, list[Any]]],
) -> None:
    """Collect (heatmap, area) of the last class on held-out images of it that have something marked."""
    last = len(dataset.classes) - 1
    for index in held_out:
        if dataset.labels[index] != last:
            continue
        seen: dict[str, Any] = {}
        for kind, regions in kinds.items():
            area = None if regions is None else regions.of(index)
            if area is not None and area.getbbox() is not None:
                seen[kind] = mask_in_input(area, recipe.preprocessing)
        if not seen:
            continue
        pixels = preprocess(dataset.radiograph(index), recipe.preprocessing)[None]
        maps = explainer.explain(pixels, [last]).heatmaps
        for kind, area in seen.items():
            for layer, heatmaps in maps.items():
                heat[kind][layer].append((heatmaps[0], area))


def _scores(explainer: Explainer, inputs: Any) -> Any:
    parts = [explainer.explain(inputs[start : start + 32]).scores for start in range(0, len(inputs), 32)]
    return np.concatenate(parts)


def _tell(epoch: Epoch) -> None:
    print(
        f"  {epoch.stage} {epoch.epoch}/{epoch.epochs}: loss {epoch.loss:.3f}, AUC {epoch.val_auc:.4f}",
        flush=True,
    )


if __name__ == "__main__":
    try:
        main()
    except XraycamError as error:
        sys.exit(f"xraycam: {error}")
