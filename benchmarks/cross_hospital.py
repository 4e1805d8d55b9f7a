"""How a recipe does within a hospital, and at one that it has not seen, in every direction.

    python -m benchmarks.cross_hospital ../shared/data/shenzhen ../shared/data/montgomery \\
        --init-weights ../shared/weights/mobilenet_v2_imagenet_notop.weights.h5 --out cross_hospital.json

Rows are what a network was trained on, one hospital or all together, columns what it was tested on. No image
is judged by a network that has seen it: within a hospital each by that of the fold that holds it out, at
another by each of the folds' networks. Figures are means over folds. Sample radiographs of the package are
left out of both. `benchmarks.fold_auc` compares the files of two recipes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks.fold_auc import mean_auc, with_interval
from benchmarks.placement import mask_in_input, placement
from producer.training_request import recipe_from
from worker.errors import XraycamError
from worker.explain.explainer import Explainer
from worker.explain.forward import scale
from worker.images.preprocess import preprocess
from worker.train.annotations import FindingAnnotations, find_annotations
from worker.train.cam_evaluation import unsaved_metadata
from worker.train.dataset import LabelledDataset, load_labelled_folder
from worker.train.metrics import compute_metrics, roc_auc, softmax
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
    parser.add_argument(
        "--card", type=Path, help="write figures of the row 'all' for `tools.make_starter --cross-validation`"
    )
    given = parser.parse_args()
    recipe = recipe_from(given.recipe, given.set)
    parts = [load_labelled_folder(folder) for folder in given.datasets]
    names = [folder.resolve().name for folder in given.datasets]
    marks = find_annotations(given.datasets[0])
    sources = {name: [index] for index, name in enumerate(names)} | {"all": list(range(len(parts)))}
    found: dict[str, Any] = {"recipe": recipe.model_dump(mode="json"), "folds": given.folds, "rows": {}}
    print(f"trained on, tested on: AUC (95% interval); recipe {recipe.name} {' '.join(given.set)}")
    for name, chosen in sources.items():
        if given.rows is None or name in given.rows:
            row = found["rows"][name] = {"tested": {}}

            def keep(tested: dict[str, Any], row: dict[str, Any] = row) -> None:
                row["tested"] = tested
                given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

            row |= _row(parts, names, chosen, recipe, given, marks, keep)
            _print(name, found["rows"][name])
            given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.card is not None:
        figures = found["rows"]["all"]["cross_validation"]
        given.card.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _row(
    parts: Sequence[LabelledDataset],
    names: Sequence[str],
    chosen: Sequence[int],
    recipe: Recipe,
    given: argparse.Namespace,
    marks: Path | None,
    keep: Callable[[dict[str, Any]], object],
) -> dict[str, Any]:
    """Under `tested`, by hospital, what the folds' networks said of its images; under `findings` where heat
    falls, by layer; under `cross_validation` what a model card says. `keep`: told of `tested` by fold."""
    dataset = _joined([parts[index] for index in chosen])
    regions = None if marks is None or 0 not in chosen else FindingAnnotations(marks, dataset)
    trainer = Trainer(dataset, recipe, init_weights=given.init_weights, regions=regions)
    hospital = np.repeat(chosen, [len(parts[index]) for index in chosen])
    number = np.concatenate([np.arange(len(parts[index])) for index in chosen])
    tested: dict[str, Any] = {
        name: {"labels": list(part.labels), "folds": []} for name, part in zip(names, parts, strict=True)
    }
    heat: dict[str, list[Any]] = defaultdict(list)
    pooled = np.zeros((len(dataset), len(dataset.classes)), np.float32)
    fold_figures: list[dict[str, Any]] = []
    folds = 1 if given.first_fold_only else given.folds
    for split in fold_splits(dataset, folds=given.folds, seed=0)[:folds]:
        started = time.process_time(), time.monotonic()
        trained = trainer.fit(split)
        seconds = [round(time.process_time() - started[0]), round(time.monotonic() - started[1])]
        held_out = np.array(split.validation)
        pooled[held_out] = trained.scores
        for index, (name, part) in enumerate(zip(names, parts, strict=True)):
            of_held_out = number[held_out[hospital[held_out] == index]]
            asked = [int(i) for i in of_held_out] if index in chosen else list(range(len(part)))
            tested[name]["folds"].append({"indices": asked, **_margins(trained.network, recipe, part, asked)})
        auc = roc_auc(np.array(dataset.labels)[held_out], softmax(trained.scores))
        fold_figures.append({"auc": auc, "images": len(held_out), "seconds": seconds})
        keep(tested)
        now = {name: round(mean_auc({**one, "folds": one["folds"][-1:]}), 3) for name, one in tested.items()}
        print(
            f"  a fold of {len(split.training)} images in {seconds} s (processor, clock): {now}", flush=True
        )
        if regions is not None:
            _add_heat(heat, trained.network, dataset, recipe, regions, split.validation)
    for one in tested.values():
        one["auc"], one["interval"] = with_interval(one)
        one["auc_with_mirrored"], one["interval_with_mirrored"] = with_interval(one, "both")
    findings = {
        layer: placement(*zip(*pairs, strict=True)).model_dump(mode="json") for layer, pairs in heat.items()
    }
    row = {"tested": tested, "findings": findings, "seconds": [one["seconds"] for one in fold_figures]}
    if not given.first_fold_only:
        row["cross_validation"] = _for_card(
            dataset, recipe, trainer, fold_figures, pooled, row, names, chosen
        )
    return row


def _margins(network: Any, recipe: Recipe, part: LabelledDataset, asked: Sequence[int]) -> dict[str, Any]:
    """Logit of the second class less that of the first, of images and of their mirrored pictures."""

    def forward(pixels: Any) -> Any:
        return network(scale(pixels, recipe.preprocessing), training=False)

    side = recipe.preprocessing.size
    predict = tf.function(forward, input_signature=[tf.TensorSpec((None, side, side), tf.uint8)])
    found: dict[str, list[float]] = {"margins": [], "mirrored_margins": []}
    for start in range(0, len(asked), 32):
        some = [
            preprocess(part.radiograph(index), recipe.preprocessing) for index in asked[start : start + 32]
        ]
        pixels = np.stack(some)
        for name, shown in (("margins", pixels), ("mirrored_margins", pixels[:, :, ::-1])):
            scores = predict(shown).numpy()
            found[name] += [round(float(value), 5) for value in scores[:, 1] - scores[:, 0]]
    return found


def _for_card(
    dataset: LabelledDataset,
    recipe: Recipe,
    trainer: Trainer,
    folds: list[dict[str, Any]],
    pooled: Any,
    row: dict[str, Any],
    names: Sequence[str],
    chosen: Sequence[int],
) -> dict[str, Any]:
    """Figures of the images of the row's own hospitals, as `benchmarks.cross_validation` has them."""
    aucs = [fold["auc"] for fold in folds]
    return {
        "recipe": recipe.model_dump(mode="json"),
        "dataset": {"name": " and ".join(names[index] for index in chosen), "digest": dataset.digest},
        "started_from": trainer.started_from,
        "fold_seed": 0,
        "findings_used_in_training": trainer.regions is not None,
        "epoch_chosen_on_held_out_images": recipe.monitor != "last" or recipe.patience > 0,
        "folds": folds,
        "fold_auc": aucs,
        "mean_auc": float(np.mean(aucs)),
        "pooled": compute_metrics(np.array(dataset.labels), pooled, dataset.classes).model_dump(mode="json"),
        "by_source": {
            name: {"images": len(one["labels"]), "auc": one["auc"], "auc_interval": one["interval"]}
            for name, one in row["tested"].items()
            if name in [names[index] for index in chosen]
        },
        "heat": {"findings": row["findings"]} if row["findings"] else {},
    }


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
    for tested, one in row["tested"].items():
        cells = [
            f"{auc:.3f} ({low:.3f} to {high:.3f})"
            for auc, (low, high) in (
                (one["auc"], one["interval"]),
                (one["auc_with_mirrored"], one["interval_with_mirrored"]),
            )
        ]
        print(f"{name}, {tested}: {cells[0]}; with the mirrored picture {cells[1]}", flush=True)
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
