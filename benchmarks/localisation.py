"""Does the layer that is most faithful also point at marked findings? Cross-validated, on real radiographs.

    python -m benchmarks.localisation ../shared/data/shenzhen \\
        --init-weights ../shared/weights/mobilenet_v2_imagenet_notop.weights.h5 --out localisation.json

Every image is explained by a network that has not seen it. In each fold layer and method are chosen by
faithfulness on held-out images, without looking at what is marked; then all pairs, the reference's four
layers, the last layer, a random map and a centred blob are judged by what is marked in the held-out images.
`--without-findings` keeps marked findings out of the training, too.
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
from scipy.stats import spearmanr

from worker.errors import XraycamError
from worker.explain.attribution import mask_in_input
from worker.explain.explainer import Explainer
from worker.images.preprocess import preprocess
from worker.map_evaluation.bootstrap import bootstrap_mean, share_mean
from worker.map_evaluation.localisation import score_localisation
from worker.map_evaluation.ranking import METHODS, centred_blobs, layers_to_rank, random_maps, rank
from worker.train.annotations import FindingAnnotations, find_annotations
from worker.train.cam_evaluation import unsaved_metadata
from worker.train.dataset import LabelledDataset, load_labelled_folder
from worker.train.metrics import roc_auc, softmax
from worker.train.recipe import recipe_named
from worker.train.splits import Split, fold_splits
from worker.train.training import Trainer

REFERENCE = ("block_1_project", "block_2_add", "block_7_project", "block_10_project")
CHOSEN = "chosen by faithfulness"
FIGURES = ("hit", "energy", "iou")

LocalisationScore = dict[str, dict[int, tuple[float, ...]]]


def main() -> None:
    """Run all folds; figures are written after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--init-weights", default="imagenet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--regions", type=Path, help="marked findings; default: the file beside the classes")
    parser.add_argument("--without-findings", action="store_true", help="train on classes alone")
    parser.add_argument("--images", type=int, default=16, help="for faithfulness, of each fold")
    parser.add_argument("--keep", type=Path, help="folder for the folds' weights: used again if there")
    parser.add_argument("--out", type=Path, default=Path("localisation.json"))
    given = parser.parse_args()
    recipe = recipe_named(given.recipe)
    dataset = load_labelled_folder(given.dataset)
    source = given.regions or find_annotations(given.dataset)
    if source is None:
        raise XraycamError(f"{given.dataset} has no marked findings beside it; give --regions")
    regions = FindingAnnotations(source, dataset)
    trainer = Trainer(
        dataset,
        recipe,
        init_weights=given.init_weights,
        regions=None if given.without_findings else regions,
    )
    located: LocalisationScore = defaultdict(dict)
    folds: list[dict[str, Any]] = []
    for number, parts in enumerate(fold_splits(dataset, folds=given.folds, seed=given.seed), 1):
        started = time.monotonic()
        network, auc = _trained(trainer, dataset, parts, given.keep, number)
        trained_in = time.monotonic() - started
        fold = _judge(network, dataset, parts, recipe, regions, given.images, located)
        folds.append({"auc": auc, "seconds": round(trained_in), **fold})
        print(
            f"fold {number}: AUC {auc}, chosen {fold['chosen']}, {time.monotonic() - started:.0f} s",
            flush=True,
        )
        found = _summary(folds, located)
        found |= {"recipe": recipe.name, "findings_used_in_training": trainer.regions is not None}
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    _print(found)


def _trained(
    trainer: Trainer, dataset: LabelledDataset, parts: Split, keep: Path | None, number: int
) -> tuple[Any, float | None]:
    file = None if keep is None else keep / f"fold-{number}.weights.h5"
    if file is not None and file.exists():
        trainer.network.load_weights(file)
        return trainer.network, None
    trained = trainer.fit(parts)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        trained.network.save_weights(file)
    labels = np.array(dataset.labels)[list(parts.validation)]
    return trained.network, roc_auc(labels, softmax(trained.scores))


def _judge(
    network: Any,
    dataset: LabelledDataset,
    parts: Split,
    recipe: Any,
    regions: FindingAnnotations,
    images: int,
    located: LocalisationScore,
) -> dict[str, Any]:
    """Choose by faithfulness, then judge everything by what is marked; adds to `located` by image."""
    description = unsaved_metadata(network, dataset.classes, recipe)
    random = np.random.default_rng(0)
    by_class = [[i for i in parts.validation if dataset.labels[i] == n] for n in range(len(dataset.classes))]
    drawn = [int(i) for one in by_class for i in random.permutation(one)[: images // len(by_class)]]
    pixels = _pixels(dataset, drawn, recipe)
    ranking = rank(description, network, pixels)
    older = rank(description, network, pixels, layers=REFERENCE, methods=("gradcam",))

    last = len(dataset.classes) - 1
    areas = {i: regions.of(i) for i in by_class[last]}
    marked = [i for i, area in areas.items() if area is not None and area.getbbox() is not None]
    seen = [mask_in_input(areas[i], recipe.preprocessing) for i in marked]
    inputs = _pixels(dataset, marked, recipe)
    maps: dict[str, Any] = {}
    for layers, methods in ((layers_to_rank(description), METHODS), (REFERENCE, ("gradcam",))):
        explainer = Explainer(description, network, layers, methods)
        found = [
            explainer.explain(inputs[start : start + 16], [last] * len(inputs[start : start + 16])).heatmaps
            for start in range(0, len(inputs), 16)
        ]
        for panel in explainer.panels:
            name = f"{panel.layer} {panel.method.name}"
            maps[name] = np.concatenate([part[panel.name] for part in found])
    maps[CHOSEN] = maps[ranking.best.name]
    maps["random map"], maps["centred blob"] = random_maps(len(marked), seed=1), centred_blobs(len(marked))
    for name, values in maps.items():
        for index, heatmap, area in zip(marked, values, seen, strict=True):
            one = score_localisation(heatmap, area)
            located[name][index] = (one.hit, one.energy, one.iou, one.area, float(not heatmap.any()))
    faithfulness = {
        row.name: row.faithfulness.faithfulness.value
        for row in (*ranking.pairs, *older.pairs, *ranking.baselines)
    }
    return {
        "chosen": ranking.best.name,
        "marked": len(marked),
        "faithfulness_images": ranking.images,
        "faithfulness": faithfulness,
        "blank": {row.name: row.blank for row in (*ranking.pairs, *older.pairs)},
    }


def _pixels(dataset: LabelledDataset, indices: list[int], recipe: Any) -> Any:
    return np.stack([preprocess(dataset.radiograph(i), recipe.preprocessing) for i in indices])


def _summary(folds: list[dict[str, Any]], located: LocalisationScore) -> dict[str, Any]:
    rows = {}
    chosen = np.array(list(located[CHOSEN].values()))
    for name, by_image in located.items():
        values = np.array(list(by_image.values()))
        row: dict[str, Any] = {
            figure: (share_mean if figure == "hit" else bootstrap_mean)(values[:, n]).model_dump()
            for n, figure in enumerate(FIGURES)
        }
        # The same images, drawn together: how much better the chosen one is.
        row["chosen_is_better_by"] = {
            figure: bootstrap_mean(chosen[:, n] - values[:, n]).model_dump()
            for n, figure in enumerate(FIGURES)
        }
        row["area"], row["blank"] = float(values[:, 3].mean()), int(values[:, 4].sum())
        faithful = [fold["faithfulness"][name] for fold in folds if name in fold["faithfulness"]]
        row["faithfulness"] = float(np.mean(faithful)) if faithful else None
        rows[name] = row
    pairs = [row for name, row in rows.items() if name != CHOSEN and row["faithfulness"] is not None]
    faithfulness = [row["faithfulness"] for row in pairs]
    return {
        "images": len(chosen),
        "folds": folds,
        "maps": rows,
        "rank_correlation_with_faithfulness": {
            figure: float(spearmanr(faithfulness, [row[figure]["value"] for row in pairs]).statistic)
            for figure in FIGURES
        },
    }


def _print(found: dict[str, Any]) -> None:
    rows = sorted(found["maps"].items(), key=lambda item: -item[1]["energy"]["value"])
    print(f"{found['images']} marked images, none seen by the network that explains it; 95% intervals")
    print(f"{'map':32} {'faithful':>8} {'hit rate':>20} {'share of heat':>20} {'IoU':>6} {'blank':>5}")
    for name, row in rows:
        hit, energy = (
            f"{row[f]['value']:.3f} ({row[f]['low']:.2f}-{row[f]['high']:.2f})" for f in ("hit", "energy")
        )
        faithful = "" if row["faithfulness"] is None else f"{row['faithfulness']:.2f}"
        iou = row["iou"]["value"]
        print(f"{name:32} {faithful:>8} {hit:>20} {energy:>20} {iou:6.3f} {row['blank']:5}")
    print(f"marked: {rows[0][1]['area']:.3f} of the picture")
    print(f"rank correlation of faithfulness with: {found['rank_correlation_with_faithfulness']}")


if __name__ == "__main__":
    try:
        main()
    except XraycamError as error:
        sys.exit(f"xraycam: {error}")
