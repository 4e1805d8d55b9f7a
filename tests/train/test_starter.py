"""The model that ships with the package is whole, small, and described by what is stored with it."""

from __future__ import annotations

from worker.model.metadata import CARD_FILE, check_folder, read_metadata
from worker.model.store import STARTER
from worker.train.held_out import sample_digests, trained_on
from worker.train.model_card import model_card
from worker.train.recipe import DEFAULT, Recipe


def test_the_starter_is_whole_and_at_most_six_megabytes() -> None:
    check_folder(STARTER)
    assert sum(file.stat().st_size for file in STARTER.iterdir()) <= 6_000_000


def test_its_card_is_what_the_command_writes() -> None:
    assert (STARTER / CARD_FILE).read_text(encoding="utf-8") == model_card(read_metadata(STARTER))


def test_it_was_trained_by_the_default_recipe_and_not_on_the_samples() -> None:
    training = read_metadata(STARTER).training
    assert Recipe.model_validate(training["recipe"]) == DEFAULT
    assert training["validation"]["auc"] >= 0.9
    assert training["data"]["skipped_by_reason"] == {"sample": len(sample_digests())}
    assert not any(trained_on(training, sorted(sample_digests())) or [True])


def test_it_has_a_calibrated_score_and_thresholds_from_its_validation_images() -> None:
    starter = read_metadata(STARTER)
    assert starter.positive_class == "Tuberculosis"
    assert abs(starter.temperature - starter.training["validation"]["temperature"]) < 1e-4
    assert len(starter.operating_points) == 3
    ninety = starter.require_operating_point("sensitivity-90")
    assert ninety.sensitivity >= 0.9
    assert ninety.threshold_interval[0] <= ninety.threshold <= ninety.threshold_interval[1]
    assert set(starter.distributions) == {"score", "brightness", "contrast"}
    assert starter.distributions["score"].images == sum(starter.training["validation"]["images"].values())
