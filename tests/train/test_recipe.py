"""Recipes: the reference's numbers, and the rules of all."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from producer.training_request import recipe_from
from worker.model.architectures import ARCHITECTURES
from worker.train.recipe import (
    DEFAULT,
    REFERENCE,
    REFERENCE_TUNED,
    ChestAugmentation,
    KerasAugmentation,
    Recipe,
    RecipeError,
    recipe_named,
)


def test_the_reference_recipe_is_the_reference() -> None:
    assert recipe_named("reference") is REFERENCE
    assert (REFERENCE.preprocessing.size, REFERENCE.preprocessing.scale) == (100, "unit")
    assert (REFERENCE.validation_share, REFERENCE.seed, REFERENCE.batch) == (0.2, 12, 32)
    augmentation = REFERENCE.augmentation
    assert isinstance(augmentation, KerasAugmentation)
    assert augmentation.flip == "horizontal_and_vertical"
    assert (augmentation.rotation, augmentation.contrast) == (0.2, 1.0)
    assert (augmentation.zoom, augmentation.translation) == ((0.5, 0.2), (0.3, 0.5))
    assert (REFERENCE.head.units, REFERENCE.head.dropout, REFERENCE.head.l2) == (128, 0.8, 0.1)
    (stage,) = REFERENCE.stages
    for epoch in (0, 7, 49):
        assert stage.learning_rate * stage.decay**epoch == pytest.approx(1e-5 * 0.99 ** (epoch + 50))
    assert (stage.epochs, REFERENCE.patience, REFERENCE.monitor) == (50, 10, "val_accuracy")
    assert (REFERENCE.optimizer, REFERENCE.freeze_until) == ("adam", None)


def test_the_tuned_reference_has_its_network_head_and_regularisation() -> None:
    assert recipe_named("reference-tuned") is REFERENCE_TUNED
    tuned, reference = REFERENCE_TUNED.model_dump(), REFERENCE.model_dump()
    assert {name for name in tuned if tuned[name] != reference[name]} == {
        "name", "augmentation", "cached_augmentations", "freeze_until", "batch_norm",
        "bn_recalibration_images", "stages", "monitor", "patience",
    }  # fmt: skip
    assert tuned["head"] == {"units": 128, "dropout": 0.8, "l2": 0.1}
    assert REFERENCE_TUNED.epochs <= REFERENCE.epochs
    assert REFERENCE_TUNED.stages[0].head_only


def test_the_references_rates_add_up_to_less_than_a_tenth_of_a_first_weight() -> None:
    """Adam moves a weight by about the rate in each step: docs/decisions/reference-recipe.md."""
    (stage,) = REFERENCE.stages
    steps_per_epoch = -(-424 // REFERENCE.batch)
    moved = sum(steps_per_epoch * stage.learning_rate * stage.decay**epoch for epoch in range(stage.epochs))
    glorot_limit = (6 / (1280 + REFERENCE.head.units)) ** 0.5
    assert moved == pytest.approx(3.3e-3, rel=0.02)
    assert moved < glorot_limit / 10


def test_the_default_recipe_keeps_chests_upright_and_judges_no_epoch_by_what_it_reports() -> None:
    assert recipe_named("default") is DEFAULT
    assert isinstance(DEFAULT.augmentation, ChestAugmentation)
    assert DEFAULT.augmentation.rotation <= 20
    assert DEFAULT.stages[0].head_only
    assert not DEFAULT.stages[-1].head_only


def test_a_recipe_survives_json() -> None:
    for recipe in (DEFAULT, REFERENCE, REFERENCE_TUNED):
        assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_an_unknown_recipe_or_number_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match=r"'defualt'.*did you mean default"):
        recipe_named("defualt")
    with pytest.raises(ValidationError, match="patience needs a monitor"):
        Recipe.model_validate({**DEFAULT.model_dump(), "patience": 3})
    with pytest.raises(ValidationError, match="leraning"):
        Recipe.model_validate({**DEFAULT.model_dump(), "leraning": 1})


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "mobilenetv2"])
def test_a_recipe_for_another_network_has_its_scale_and_layers(name: str) -> None:
    recipe = recipe_from("default", ["stages.0.epochs=3"], name)
    known = ARCHITECTURES[name]
    assert (recipe.architecture, recipe.preprocessing.scale) == (name, known.scale)
    assert (recipe.freeze_until, recipe.localisation_layers) == (known.freeze_until, (known.last_layer,))
    assert (recipe.name, recipe.stages[0].epochs) == (f"default-{name}", 3)


def test_what_an_architecture_cannot_be_given_with_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(
        '{"name": "own", "stages": [{"epochs": 1, "learning_rate": 0.001}], "freeze_until": null}'
    )
    assert recipe_from(str(file), (), "mobilenetv2").freeze_until is None
    with pytest.raises(RecipeError, match="is for mobilenetv2: a file says its architecture"):
        recipe_from(str(file), (), "resnet50")
    with pytest.raises(RecipeError, match="use --architecture"):
        recipe_from("default", ["architecture=resnet50"])
    with pytest.raises(RecipeError, match="recipe reference is MobileNetV2's"):
        recipe_from("reference", (), "resnet50")
    with pytest.raises(RecipeError, match="resnet50 takes preprocessing"):
        recipe_from("default", ["preprocessing.scale=unit"], "resnet50")
