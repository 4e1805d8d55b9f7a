"""First weights, and what is kept of a training on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from worker.model.metadata import Head
from worker.model.network import build_network, load_model
from worker.train.annotations import FindingAnnotations
from worker.train.dataset import load_labelled_folder
from worker.train.metrics import softmax
from worker.train.publish import save_version
from worker.train.recipe import Recipe
from worker.train.split_network import InitialWeightsError, load_initial_weights
from worker.train.splits import train_val_split
from worker.train.training import TrainingResult, fit

MakeFolder = Callable[..., Path]

HEAD = Head(units=8)


def network(classes: int = 2) -> Any:
    return build_network(64, classes, HEAD, 0.35)


def names_of(trained: TrainingResult) -> list[str]:
    return [v.path for v in trained.network.variables if "seed_generator" not in v.path]


def test_a_version_in_half_precision_predicts_the_same_and_has_a_card(
    make_folder: MakeFolder, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    folder = make_folder(Clear=12, Opaque=12)
    dataset = load_labelled_folder(folder, min_per_class=4)
    parts = train_val_split(dataset, share=0.25, seed=0)
    trained = fit(dataset, parts, tiny_recipe, init_weights="none")
    description = save_version(
        trained,
        dataset,
        parts,
        tiny_recipe,
        tmp_path / "v1",
        version="v1",
        default_layer="block_15_add",
        positive_class="Opaque",
        figures={},
    )
    assert description.positive_class == "Opaque"
    assert description.temperature == description.training["validation"]["temperature"]
    names = [point.name for point in description.operating_points]
    assert names == ["sensitivity-90", "sensitivity-95", "specificity-70"]
    assert "brightness" in description.distributions
    loaded, again = load_model(tmp_path / "v1")
    assert loaded == description
    pixels = np.random.default_rng(0).uniform(-1, 1, (6, 64, 64, 3)).astype(np.float32)
    before, after = (softmax(model(pixels, training=False).numpy()) for model in (trained.network, again))
    np.testing.assert_allclose(after, before, atol=2e-3)
    card = (tmp_path / "v1" / "MODEL_CARD.md").read_text()
    assert "Not a medical device" in card
    assert f"{loaded.training['validation']['auc']:.3f}" in card
    assert "| Clear | 12 | 9 | 3 |" in card
    assert Recipe.model_validate(loaded.training["recipe"]) == tiny_recipe

    started = network()
    assert load_initial_weights(started, str(tmp_path / "v1"), alpha=0.35) == "version v1 without its head"
    same = network()
    same.get_layer("Conv1").set_weights(again.get_layer("Conv1").get_weights())
    np.testing.assert_array_equal(
        started.get_layer("Conv1").get_weights()[0], same.get_layer("Conv1").get_weights()[0]
    )


def test_marked_findings_are_learned_beside_the_class_and_leave_no_trace_in_the_network(
    make_folder: MakeFolder, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    folder = make_folder(Clear=8, Opaque=8)
    masks = tmp_path / "masks"
    masks.mkdir()
    dataset = load_labelled_folder(folder, min_per_class=4)
    for file in (folder / "Opaque").iterdir():
        file.rename(file.with_name(f"o{file.name}"))
    dataset = load_labelled_folder(folder, min_per_class=4)
    for index, label in enumerate(dataset.labels):
        if label == 1:
            bright = dataset.radiograph(index).pixels.point(lambda value: 255 * (value > 150))
            bright.save(masks / dataset.files[index].name)
    parts = train_val_split(dataset, share=0.25, seed=0)
    without = fit(dataset, parts, tiny_recipe, init_weights="none")
    scores = without.scores
    marked = fit(dataset, parts, tiny_recipe, init_weights="none", regions=FindingAnnotations(masks, dataset))
    assert marked.history[0].loss > without.history[0].loss
    assert (marked.scores != scores).any()
    assert set(names_of(marked)) == set(names_of(without))


def test_weights_come_from_a_file_without_top(tmp_path: Path) -> None:
    base = keras.applications.MobileNetV2(
        input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=None
    )
    file = tmp_path / "base.weights.h5"
    base.save_weights(file)
    mine = network()
    assert load_initial_weights(mine, str(file), alpha=0.35) == "the file base.weights.h5"
    for name in ("Conv1", "block_16_project_BN"):
        for a, b in zip(base.get_layer(name).get_weights(), mine.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(file)
    with pytest.raises(InitialWeightsError, match=r"other\.weights\.h5.*does not hold MobileNetV2"):
        load_initial_weights(network(), str(file), alpha=0.35)
    with pytest.raises(InitialWeightsError, match=r"no file and no model folder; give imagenet"):
        load_initial_weights(network(), str(tmp_path / "missing"), alpha=0.35)


def test_a_download_that_fails_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: Any, **options: Any) -> Any:
        assert options["weights"] == "imagenet"
        raise OSError("Name or service not known")

    mine = network()
    monkeypatch.setattr(keras.applications, "MobileNetV2", unreachable)
    with pytest.raises(InitialWeightsError, match=r"cannot be downloaded \(Name or service.*--init-weights"):
        load_initial_weights(mine, "imagenet", alpha=0.35)
