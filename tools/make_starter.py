"""Makes the starter model that ships with the package: `python -m tools.make_starter DATASET ...`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from worker.errors import XraycamError
from worker.images.preprocess import preprocess
from worker.model.metadata import CARD_FILE, read_metadata, write_metadata
from worker.model.network import load_model, round_to_stored_precision
from worker.model.store import STARTER
from worker.train.annotations import FindingAnnotations, find_annotations
from worker.train.cam_evaluation import evaluate_cams, measure_occlusion
from worker.train.check_fitting import add_check, fit_check
from worker.train.dataset import DatasetError, LabelledDataset, load_labelled_folder
from worker.train.evaluation import measured, predict_logits
from worker.train.heat_scale import heat_scales
from worker.train.held_out import pack_digests
from worker.train.model_card import model_card
from worker.train.operating_points import score_reference
from worker.train.publish import save_version
from worker.train.recipe import Recipe, recipe_named
from worker.train.splits import train_val_split
from worker.train.training import Epoch, fit


def main() -> None:
    """Train, judge on the part split off, write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path, help="a folder with one sub-folder per class")
    parser.add_argument("--init-weights", default="imagenet", help="imagenet, a file, or a model folder")
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--cross-validation", type=Path, nargs="*", default=[], help="figures for the card")
    parser.add_argument("--source", action="append", help="a line for the card: whom to cite; repeatable")
    parser.add_argument("--version", default="starter-2")
    parser.add_argument("--out", type=Path, default=STARTER)
    parser.add_argument("--positive", default="Tuberculosis", help="the class that the score is of")
    parser.add_argument(
        "--scores-only",
        action="store_true",
        help="train nothing: fit the temperature, measure figures, operating points, distributions again",
    )
    parser.add_argument(
        "--describe-only",
        action="store_true",
        help="train nothing: measure occlusion again and put new figures beside the weights",
    )
    parser.add_argument(
        "--input-check-only",
        action="store_true",
        help="train nothing: fit the check of the input anew for the weights that are there",
    )
    parser.add_argument(
        "--card-only",
        action="store_true",
        help="train and measure nothing: put the figures given by --cross-validation into record and card",
    )
    parser.add_argument("--elsewhere", type=Path, help="JSON of figures on other pictures, for the card")
    arguments = parser.parse_args()
    recipe = recipe_named(arguments.recipe)
    found = [json.loads(file.read_text(encoding="utf-8")) for file in arguments.cross_validation]
    dataset = load_labelled_folder(arguments.dataset, min_per_class=recipe.min_per_class)
    _refuse_other_data(found, dataset)
    figures: dict[str, Any] = {}
    if found:
        figures["cross_validation"] = {one["recipe"]["name"]: one for one in found}
    if arguments.card_only:
        _card_anew(arguments.out, dataset, figures)
        return
    if arguments.input_check_only:
        _check_anew(arguments.out, dataset, arguments.elsewhere)
        return
    if arguments.scores_only:
        describe_scores(arguments.out, dataset, arguments.positive)
        return
    if arguments.describe_only:
        if arguments.source:
            figures["source"] = arguments.source
        _describe_anew(arguments.out, dataset, figures, arguments.positive)
        return
    parts = train_val_split(dataset, share=recipe.validation_share, seed=recipe.seed)
    marked = find_annotations(arguments.dataset) if recipe.localisation_loss_weight else None
    regions = None if marked is None else FindingAnnotations(marked, dataset)
    trained = fit(
        dataset, parts, recipe, init_weights=arguments.init_weights, regions=regions, progress=_tell
    )
    round_to_stored_precision(trained.network)
    scores = predict_logits(trained.network, recipe.preprocessing, dataset, parts.validation)
    if regions is not None:
        figures["findings"] = {"file": regions.source.name, "images": regions.images}
    maps = evaluate_cams(
        trained.network,
        dataset,
        parts.validation,
        recipe,
        version=arguments.version,
        positive_class=arguments.positive,
    )
    shutil.rmtree(arguments.out, ignore_errors=True)
    metadata = save_version(
        replace(trained, scores=scores),
        dataset,
        parts,
        recipe,
        arguments.out,
        version=arguments.version,
        default_layer=maps.layer,
        default_method=maps.method,
        heat_scales=maps.heat_scales,
        source=arguments.source or (),
        positive_class=arguments.positive,
        figures=figures | maps.figures,
    )
    _check_anew(arguments.out, dataset, arguments.elsewhere)
    print(f"{arguments.out}: {metadata.version}, AUC {metadata.training['validation']['auc']:.3f}")


def _check_anew(folder: Path, dataset: LabelledDataset, elsewhere: Path | None) -> None:
    metadata, network = load_model(folder)
    if metadata.training["data"]["digest"] != dataset.digest:
        raise DatasetError(f"{folder} was not trained on {dataset.root}; train it anew")
    recipe = Recipe.model_validate(metadata.training["recipe"])
    parts = train_val_split(dataset, share=recipe.validation_share, seed=recipe.seed)
    check, figures = fit_check(
        metadata, network, dataset, parts.training, parts.validation, seed=recipe.seed, progress=_tell_check
    )
    if elsewhere is not None:
        figures["elsewhere"] = json.loads(elsewhere.read_text(encoding="utf-8"))
    new = add_check(folder, check, figures)
    (folder / CARD_FILE).write_text(model_card(new), encoding="utf-8")
    print(json.dumps(figures["kinds"], indent=1))


def _card_anew(folder: Path, dataset: LabelledDataset, figures: dict[str, Any]) -> None:
    old = read_metadata(folder)
    if old.training["data"]["digest"] != dataset.digest:
        raise DatasetError(f"{folder} was not trained on {dataset.root}; train it anew")
    new = old.model_copy(update={"training": {**old.training, **figures}})
    write_metadata(folder, new)
    (folder / CARD_FILE).write_text(model_card(new), encoding="utf-8")


def _tell_check(done: int, of: int) -> None:
    print(f"input check: {done}/{of} images", flush=True)


def _describe_anew(
    folder: Path, dataset: LabelledDataset, figures: dict[str, Any], positive: str | None
) -> None:
    old = read_metadata(folder)
    if old.training["data"]["digest"] != dataset.digest:
        raise DatasetError(f"{folder} was not trained on {dataset.root}; train it anew")
    recipe = Recipe.model_validate(old.training["recipe"])
    parts = train_val_split(dataset, share=recipe.validation_share, seed=recipe.seed)
    metadata, network = load_model(folder)
    figures["reliance"] = measure_occlusion(metadata, network, dataset, parts.validation)
    figures["training_images"] = pack_digests(dataset.sha256[index] for index in parts.training)
    pixels = np.stack(
        [preprocess(dataset.radiograph(index), metadata.preprocessing) for index in parts.validation]
    )
    described = metadata.model_copy(update={"positive_class": positive or old.positive_class})
    scales = heat_scales(described, network, pixels)
    new = old.model_copy(
        update={
            "training": {**old.training, **figures},
            "heat_scales": scales,
            "positive_class": positive or old.positive_class,
        }
    )
    write_metadata(folder, new)
    (folder / CARD_FILE).write_text(model_card(new), encoding="utf-8")
    print(f"{folder}: {new.version} described anew")


def describe_scores(folder: Path, dataset: LabelledDataset, positive_class: str) -> None:
    """Put positive class, temperature, validation figures, operating points and distributions into a
    version's description.

    They are measured on its validation images, which `dataset` must have. Doing it again changes nothing.
    """
    old = read_metadata(folder)
    if old.training["data"]["digest"] != dataset.digest:
        raise DatasetError(f"{folder} was not trained on {dataset.root}; train it anew")
    recipe = Recipe.model_validate(old.training["recipe"])
    parts = train_val_split(dataset, share=recipe.validation_share, seed=recipe.seed)
    metadata, network = load_model(folder)
    logits = predict_logits(network, metadata.preprocessing, dataset, parts.validation)
    validation = measured(dataset, parts.validation, logits, positive_class=positive_class).metrics
    temperature = validation.temperature
    reference = score_reference(
        dataset,
        parts.validation,
        metadata.preprocessing,
        logits,
        positive_class=positive_class,
        temperature=temperature,
    )
    known = {"positive_class": positive_class, "temperature": temperature, **reference}
    known["training"] = {**old.training, "validation": validation.model_dump(mode="json")}
    new = old.model_copy(update=known)
    write_metadata(folder, new)
    (folder / CARD_FILE).write_text(model_card(new), encoding="utf-8")
    for point in reference["operating_points"]:
        print(point.model_dump_json())


def _refuse_other_data(found: list[dict[str, Any]], dataset: LabelledDataset) -> None:
    for one in found:
        if one["dataset"]["digest"] != dataset.digest:
            raise DatasetError(
                f"the cross-validation of recipe {one['recipe']['name']} was made on other data than "
                f"{dataset.root}; run it again"
            )


def _tell(epoch: Epoch) -> None:
    print(
        f"{epoch.stage} {epoch.epoch}/{epoch.epochs}: loss {epoch.loss:.3f}, validation loss "
        f"{epoch.val_loss:.3f}, AUC {epoch.val_auc:.3f}, {epoch.seconds:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    try:
        main()
    except XraycamError as error:
        sys.exit(f"xraycam: {error}")
