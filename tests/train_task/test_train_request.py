"""What `xraycam train` refuses before anything is trained, and how."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db.ledger import Ledger
from db.models import add_model
from db.trainings import list_trainings
from producer.training_request import (
    TrainingRefused,
    TrainingRequest,
    check_version,
    recipe_from,
    request_training,
)
from worker.settings import Settings
from worker.train.recipe import DEFAULT, REFERENCE, RecipeError

MakeFolder = Callable[..., Path]


@pytest.fixture
def known(known: Ledger) -> Ledger:
    """With one model in it."""
    known.write(
        add_model, version="older-1", digest="0" * 64, classes=("a", "b"), source="a test", metrics={}
    )
    return known


def test_a_class_with_too_few_images_is_refused_with_its_name_and_count(
    make_folder: MakeFolder, known: Ledger, settings: Settings
) -> None:
    folder = make_folder("data", Clear=12, Opaque=3)
    (folder / "Opaque" / ".hidden.png").write_bytes(b"")
    with pytest.raises(
        TrainingRefused, match=r"too few images in Opaque \(3\); each class needs at least 10"
    ):
        request_training(known, settings, TrainingRequest(folder))
    assert known.query(list_trainings) == []


def test_a_folder_without_two_classes_is_refused(
    make_folder: MakeFolder, known: Ledger, settings: Settings, tmp_path: Path
) -> None:
    folder = make_folder("data", Clear=12)
    with pytest.raises(TrainingRefused, match="has one sub-folder, Clear; put the images of each class"):
        request_training(known, settings, TrainingRequest(folder))
    with pytest.raises(TrainingRefused, match="no such folder"):
        request_training(known, settings, TrainingRequest(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"init_weights": "nothing"}, "--init-weights nothing .*no such file.*known: older-1"),
        ({"group_by": "("}, "--group-by '\\(' is not a regular expression"),
        ({"version": "Older"}, "--version Older: use small letters"),
        ({"version": "older-1"}, "--version older-1: there is or was a model of this name already"),
        ({"test": Path("nowhere")}, "--test .*nowhere: there is no such folder"),
        ({"recipe": "refrence"}, "no recipe 'refrence'.*did you mean reference"),
        ({"recipe": "missing.json"}, "--recipe missing.json: there is no such file"),
    ],
)
def test_what_cannot_be_is_refused_before_a_row_is_made(
    make_folder: MakeFolder, known: Ledger, settings: Settings, given: dict[str, Any], message: str
) -> None:
    folder = make_folder("data", Clear=12, Opaque=12)
    with pytest.raises((TrainingRefused, RecipeError), match=message):
        request_training(known, settings, TrainingRequest(folder, **given))
    assert known.query(list_trainings) == []


def test_a_test_folder_must_have_all_classes(
    make_folder: MakeFolder, known: Ledger, settings: Settings
) -> None:
    folder, test = make_folder("data", Clear=12, Opaque=12), make_folder("test", Clear=2, Other=2)
    with pytest.raises(TrainingRefused, match=r"--test .*has no images of Opaque"):
        request_training(known, settings, TrainingRequest(folder, test=test))


def test_what_is_asked_for_is_kept_whole(
    make_folder: MakeFolder, known: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, test = make_folder("data", Clear=12, Opaque=12), make_folder("test", Clear=2, Opaque=2)
    monkeypatch.chdir(folder.parent)
    request = TrainingRequest(
        Path("data"),
        changes=("stages.0.epochs=1", "stages.1.epochs=4"),
        init_weights="older-1",
        group_by="^([a-z]+)",
        test=Path("test"),
        promote="never",
        positive="Opaque",
        version="newer-1",
    )
    asked = request_training(known, settings, request)
    assert (asked.dataset, asked.init_weights, asked.epochs) == (str(folder), "older-1", 5)
    assert asked.recipe["name"] == "default-changed"
    assert asked.recipe["preprocessing"] == DEFAULT.preprocessing.model_dump(mode="json")
    assert asked.options == {
        "group_by": "^([a-z]+)",
        "test": str(test),
        "promote": "never",
        "tolerance": settings.promote_tolerance,
        "source": [],
        "positive": "Opaque",
        "images": None,
        "findings": False,
        "version": "newer-1",
    }


def test_a_version_folder_without_a_row_takes_its_name_too(known: Ledger, settings: Settings) -> None:
    folder = Path(settings.model_store, "left-over")
    folder.mkdir(parents=True)
    check_version(known, settings, "left-over")
    (folder / "model.json").write_text("{}")
    with pytest.raises(TrainingRefused, match="left-over: there is or was a model"):
        check_version(known, settings, "left-over")


def test_a_recipe_comes_by_name_from_a_file_and_with_changes(tmp_path: Path) -> None:
    assert recipe_from("reference") == REFERENCE
    file = tmp_path / "mine.json"
    file.write_text(
        json.dumps({"name": "mine", "batch": 4, "stages": [{"epochs": 3, "learning_rate": 1e-3}]})
    )
    assert (recipe_from(str(file)).batch, recipe_from(str(file)).seed) == (4, DEFAULT.seed)
    changed = recipe_from(str(file), ["seed=5", 'augmentation={"kind": "keras"}', "freeze_until=null"])
    assert (changed.name, changed.seed, changed.augmentation.kind) == ("mine", 5, "keras")
    assert changed.freeze_until is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("batch", "write KEY=VALUE"),
        ("bach=3", "no 'bach' there; did you mean batch"),
        ("stages.9.epochs=3", "'9' is not one of 0 to"),
        ("batch.size=3", "no 'size' there; there are none below it"),
        ("batch=1", "--set batch=1: batch: Input should be greater than or equal to 2"),
        ("monitor=best", "monitor: Input should be 'last'"),
    ],
)
def test_a_wrong_change_of_a_recipe_is_refused_with_its_name(change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_from("default", [change])


@pytest.mark.parametrize("content", ["[1]", "{", '{"name": "x"}', '{"name": "x", "stages": []}'])
def test_a_file_that_is_no_recipe_is_refused_with_its_name(tmp_path: Path, content: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(content)
    with pytest.raises(RecipeError, match=r"--recipe .*bad\.json: "):
        recipe_from(str(file))


def test_the_source_of_the_images_is_stored_line_by_line(
    make_folder: MakeFolder, known: Ledger, settings: Settings
) -> None:
    folder = make_folder("data", Clear=12, Opaque=12)
    lines = ("Our hospital, 2019 to 2021", "A. Author: A set of radiographs. 2020.")
    request_training(known, settings, TrainingRequest(folder, source=lines))
    (training,) = known.query(list_trainings)
    assert training.options["source"] == list(lines)
    for wrong in ("two\nlines", "  ", "x" * 1001):
        with pytest.raises(TrainingRefused, match="--source: "):
            request_training(known, settings, TrainingRequest(folder, source=(wrong,)))


def test_from_random_weights_all_of_the_network_learns_and_that_is_said(
    make_folder: MakeFolder, known: Ledger, settings: Settings, tmp_path: Path
) -> None:
    folder = make_folder("data", Clear=12, Opaque=12)
    told: list[str] = []

    def recipe_of(**given: Any) -> dict[str, Any]:
        request = TrainingRequest(folder, **given)
        return dict(request_training(known, settings, request, told.append).recipe)

    found = recipe_of(init_weights="none", architecture="resnet50", changes=["stages.0.epochs=1"])
    assert (found["freeze_until"], found["batch_norm"]) == (None, "released")
    assert [stage["head_only"] for stage in found["stages"]] == [False, False]
    assert found["name"] == "default-resnet50-all-layers"
    assert told.pop() == "random weights: all layers learn, none is frozen"

    kept = recipe_of(init_weights="none", changes=["freeze_until=block_9_add"])
    assert (kept["freeze_until"], kept["batch_norm"]) == ("block_9_add", "frozen")
    assert "part of the network stays random" in told.pop()

    own = tmp_path / "own.json"
    own.write_text(DEFAULT.model_dump_json())
    assert recipe_of(init_weights="none", recipe=str(own))["freeze_until"] == "block_9_add"
    assert "part of the network stays random" in told.pop()

    assert recipe_of(init_weights="older-1") == DEFAULT.model_dump(mode="json")
    assert recipe_of(init_weights="none", recipe="reference") == REFERENCE.model_dump(mode="json")
    assert told == []
