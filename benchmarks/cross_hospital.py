"""How a recipe does within a hospital, and at one that it has not seen, in every direction.

    python -m benchmarks.cross_hospital ../shared/data/shenzhen ../shared/data/montgomery \\
        --init-weights ../shared/weights/mobilenet_v2_imagenet_notop.weights.h5 --out cross_hospital.json

Rows are what a network was trained on, one hospital or all together, columns what it was tested on. No image
is judged by a network that has seen it: within a hospital each by that of the fold that holds it out, at
another by one of the folds' networks in turn. Sample radiographs of the package are left out of both.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.placement import mask_in_input, placement
from producer.training_request import recipe_from
from worker.errors import XraycamError
from worker.explain.explainer import Explainer
from worker.images.preprocess import preprocess
from worker.train.annotations import FindingAnnotations, find_annotations
from worker.train.cam_evaluation import unsaved_metadata
from worker.train.dataset import LabelledDataset, load_labelled_folder
from worker.train.evaluation import predict_logits
from worker.train.metrics import auc_interval, roc_auc, softmax
from worker.train.recipe import Recipe
from worker.train.splits import fold_splits
from worker.train.training import Trainer

LAYERS = ("block_12_add", "block_13_project_BN", "block_14_add", "block_15_add")


def main() -> None:
    """Train and test; figures are written after each row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("datasets", type=Path, nargs="+", help="labelled folders, one for each hospital")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as `xraycam train`")
    parser.add_argument("--init-weights", default="imagenet")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--first-fold-only", action="store_true", help="quicker, and less certain")
    parser.add_argument("--rows", nargs="+", help="train on these alone: a folder's name, or 'all'")
    parser.add_argument("--out", type=Path, default=Path("cross_hospital.json"))
    given = parser.parse_args()
    recipe = recipe_from(given.recipe, given.set)
    parts = [load_labelled_folder(folder) for folder in given.datasets]
    names = [folder.resolve().name for folder in given.datasets]
    marks = find_annotations(given.datasets[0])
    sources = {name: [index] for index, name in enumerate(names)} | {"all": list(range(len(parts)))}
    found: dict[str, Any] = {"recipe": recipe.model_dump(mode="json"), "folds": given.folds, "rows": {}}
    print(f"trained on, tested on: AUC (95% interval), images; recipe {recipe.name} {' '.join(given.set)}")
    for name, chosen in sources.items():
        if given.rows is None or name in given.rows:
            folds = 1 if given.first_fold_only else given.folds
            row = _row(parts, chosen, recipe, given, marks, folds)
            found["rows"][name] = {names[i] if isinstance(i, int) else i: one for i, one in row.items()}
            _print(name, found["rows"][name])
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _row(
    parts: Sequence[LabelledDataset],
    chosen: Sequence[int],
    recipe: Recipe,
    given: argparse.Namespace,
    marks: Path | None,
    folds: int,
) -> dict[Any, Any]:
    """By index of the hospital tested on its AUC; under `findings` where the heat falls, by layer."""
    dataset = _joined([parts[index] for index in chosen])
    regions = None if marks is None or 0 not in chosen else FindingAnnotations(marks, dataset)
    trainer = Trainer(dataset, recipe, init_weights=given.init_weights, regions=regions)
    hospital = np.repeat(chosen, [len(parts[index]) for index in chosen])
    scores: dict[int, list[Any]] = defaultdict(list)
    labels: dict[int, list[int]] = defaultdict(list)
    heat: dict[str, list[Any]] = defaultdict(list)
    seconds = []
    for number, split in enumerate(fold_splits(dataset, folds=given.folds, seed=0)[:folds]):
        started = time.monotonic()
        trained = trainer.fit(split)
        seconds.append(round(time.monotonic() - started))
        held_out = np.array(split.validation)
        for index in chosen:
            mine = hospital[held_out] == index
            scores[index].extend(trained.scores[mine])
            labels[index].extend(np.array(dataset.labels)[held_out[mine]])
        for index in sorted(set(range(len(parts))) - set(chosen)):
            asked = range(number, len(parts[index]), folds)
            scores[index].extend(
                predict_logits(trained.network, recipe.preprocessing, parts[index], list(asked))
            )
            labels[index].extend(parts[index].labels[i] for i in asked)
        if regions is not None:
            _add_heat(heat, trained.network, dataset, recipe, regions, split.validation)
    row: dict[Any, Any] = {}
    for index in sorted(scores):
        probabilities = softmax(np.stack(scores[index]))
        row[index] = {
            "auc": roc_auc(labels[index], probabilities),
            "interval": auc_interval(labels[index], probabilities),
            "images": len(labels[index]),
        }
    row["findings"] = {
        layer: placement(*zip(*pairs, strict=True)).model_dump(mode="json") for layer, pairs in heat.items()
    }
    row["seconds"] = seconds
    return row


def _joined(parts: Sequence[LabelledDataset]) -> LabelledDataset:
    """The images of all hospitals as one dataset; the classes must be the same."""
    first = parts[0]
    for other in parts[1:]:
        if other.classes != first.classes:
            raise XraycamError(f"{other.root} has other classes than {first.root}")
    offsets = np.cumsum([0, *(len(part) for part in parts)])
    return replace(
        first,
        files=tuple(file for part in parts for file in part.files),
        labels=tuple(label for part in parts for label in part.labels),
        sha256=tuple(sha256 for part in parts for sha256 in part.sha256),
        groups=tuple(
            int(offset) + group for offset, part in zip(offsets, parts, strict=False) for group in part.groups
        ),
    )


def _add_heat(
    heat: dict[str, list[Any]],
    network: Any,
    dataset: LabelledDataset,
    recipe: Recipe,
    regions: FindingAnnotations,
    held_out: Sequence[int],
) -> None:
    """Grad-CAM of the last class, on held-out images of it in which something is marked."""
    last = len(dataset.classes) - 1
    explainer = Explainer(unsaved_metadata(network, dataset.classes, recipe), network, LAYERS)
    areas = {index: regions.of(index) for index in held_out if dataset.labels[index] == last}
    marked = {i: area for i, area in areas.items() if area is not None and area.getbbox() is not None}
    chosen = list(marked)
    for start in range(0, len(chosen), 32):
        part = chosen[start : start + 32]
        pixels = np.stack([preprocess(dataset.radiograph(index), recipe.preprocessing) for index in part])
        for layer, maps in explainer.explain(pixels, [last] * len(part)).heatmaps.items():
            heat[layer].extend(
                (heatmap, mask_in_input(marked[index], recipe.preprocessing))
                for index, heatmap in zip(part, maps, strict=True)
            )


def _print(name: str, row: dict[str, Any]) -> None:
    cells = [
        f"{tested} {one['auc']:.3f} ({one['interval'][0]:.3f} to {one['interval'][1]:.3f}), {one['images']}"
        for tested, one in row.items()
        if tested not in ("findings", "seconds")
    ]
    print(f"{name}: {'; '.join(cells)}; trained in {row['seconds']} s", flush=True)
    for layer, one in row["findings"].items():
        print(
            f"  {layer}: hottest point in a finding {one['hit_rate']:.3f}, share of heat "
            f"{one['share_of_heat']:.3f}, blank {one['blank']} of {one['images']}",
            flush=True,
        )


if __name__ == "__main__":
    try:
        main()
    except XraycamError as error:
        sys.exit(f"xraycam: {error}")
