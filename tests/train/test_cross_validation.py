"""The cross-validation command judges and explains every image by a network that has not seen it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.corruptions import CORRUPTIONS
from benchmarks.cross_validation import cross_validate
from worker.train.annotations import FindingAnnotations
from worker.train.dataset import load_labelled_folder
from worker.train.recipe import Recipe

MakeFolder = Callable[..., Path]


def test_cross_validation_gives_figures_of_every_fold_and_of_the_heat(
    make_folder: MakeFolder, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = dict(list(CORRUPTIONS.items())[:2])
    monkeypatch.setattr("benchmarks.cross_validation.CORRUPTIONS", few)
    folder = make_folder(Clear=9, Opaque=9)
    for file in (folder / "Opaque").iterdir():
        file.rename(file.with_name(f"o{file.name}"))
    polygon = {"regions": [{"points": [[20, 20], [70, 20], [70, 70], [20, 70]]}]}
    names = [file.name for file in (folder / "Opaque").iterdir()]
    (folder / "regions.json").write_text(json.dumps(dict.fromkeys(names, polygon)))
    dataset = load_labelled_folder(folder, min_per_class=4)
    regions = FindingAnnotations(folder / "regions.json", dataset)
    short = tiny_recipe.model_copy(update={"stages": tiny_recipe.stages[:1]})
    figures = cross_validate(dataset, short, 2, "none", regions, None, 0)
    assert json.loads(json.dumps(figures)) == figures
    assert sum(fold["images"] for fold in figures["folds"]) == 18
    assert figures["mean_auc"] == pytest.approx(sum(figures["fold_auc"]) / 2)
    assert sum(figures["pooled"]["images"].values()) == 18
    assert set(figures["pooled_auc_on_changed_copies"]) == set(few)
    assert figures["findings_used_in_training"]
    assert not figures["epoch_chosen_on_held_out_images"]
    for placed in figures["heat"]["findings"].values():
        assert placed["images"] == 9
        assert placed["area"] == pytest.approx(50**2 / 96**2, abs=0.02)
