"""The cross-hospital command judges no image by a network that has seen it; intervals draw images anew."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import cross_hospital
from benchmarks.fold_auc import cells, differences, draws_of, mean_auc, with_interval
from worker.train.recipe import Recipe

MakeFolder = Callable[..., Path]


def cell(first: list[float], second: list[float]) -> dict[str, object]:
    """Six images, two folds of three, and their margins."""
    labels = [0, 0, 1, 0, 1, 1]
    margins = {"margins": first, "mirrored_margins": [-value for value in first]}
    others = {"margins": second, "mirrored_margins": second}
    return {"labels": labels, "folds": [{"indices": [0, 1, 2], **margins}, {"indices": [3, 4, 5], **others}]}


def test_the_auc_is_the_mean_over_folds_not_that_of_pooled_scores() -> None:
    found = mean_auc(cell([0.0, 1.0, 2.0], [10.0, 9.0, 11.0]))
    assert found == pytest.approx((1.0 + 0.5) / 2)
    assert mean_auc(cell([0.0, 1.0, 2.0], [10.0, 9.0, 11.0]), scores="both") == pytest.approx((0.5 + 0.5) / 2)


def test_an_image_drawn_twice_counts_as_two() -> None:
    one = {"labels": [0, 0, 1, 1], "folds": [{"indices": [0, 1, 2, 3], "margins": [1.0, 3.0, 2.0, 4.0]}]}
    counts = np.array([2, 0, 1, 1])
    assert mean_auc(one, counts) == pytest.approx(roc_auc_score([0, 0, 1, 1], [1.0, 1.0, 2.0, 4.0]))
    for drawn in draws_of([0, 0, 1, 1, 1], resamples=20):
        assert drawn[:2].sum() == 2
        assert drawn[2:].sum() == 3


def test_equal_recipes_differ_by_nothing_and_a_better_one_by_what_it_gains() -> None:
    labels = [0] * 20 + [1] * 20
    rng = np.random.default_rng(0)
    noise = rng.normal(size=40)
    poor = {"labels": labels, "folds": [{"indices": list(range(40)), "margins": (noise + labels).tolist()}]}
    good = {
        "labels": labels,
        "folds": [{"indices": list(range(40)), "margins": (noise + 9 * np.array(labels)).tolist()}],
    }
    before, after = {("a", "a"): poor, ("a", "b"): poor}, {("a", "a"): good, ("a", "b"): poor}
    same = differences(before, before, ("margins", "margins"))
    assert all(value == (0.0, (0.0, 0.0)) for value in same.values())
    gained = differences(before, after, ("margins", "margins"))
    assert gained["a, a"][0] == pytest.approx(1.0 - mean_auc(poor))
    assert gained["a, b"][0] == 0.0
    assert gained["mean of those trained on one"][0] == pytest.approx(gained["a, a"][0] / 2)
    low, high = with_interval(poor)[1]
    assert low < mean_auc(poor) < high


def test_no_image_is_judged_by_a_network_that_has_seen_it(
    make_folder: MakeFolder, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make_folder(Clear=12, Opaque=12)
    there = here.rename(tmp_path / "there")
    here = make_folder(Opaque=10, Clear=10).rename(tmp_path / "here")
    out = tmp_path / "found.json"
    short = tiny_recipe.model_copy(update={"stages": tiny_recipe.stages[:1]})
    monkeypatch.setattr(cross_hospital, "recipe_from", lambda *_: short)
    options = ["--folds", "2", "--init-weights", "none", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["cross_hospital", str(here), str(there), *options])
    cross_hospital.main()
    found = cells(out)
    sizes = {"here": 20, "there": 24}
    for (row, tested), one in found.items():
        judged = [sorted(fold["indices"]) for fold in one["folds"]]
        every = list(range(sizes[tested]))
        assert len(judged) == 2
        if row in (tested, "all"):
            assert sorted(judged[0] + judged[1]) == every
        else:
            assert judged == [every, every]
    assert set(found) == {(row, tested) for row in ("here", "there", "all") for tested in sizes}
    both = json.loads(out.read_text())["rows"]["all"]["cross_validation"]
    assert sum(both["pooled"]["images"].values()) == 44
    assert set(both["by_source"]) == set(sizes)
