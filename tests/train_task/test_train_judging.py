"""Figures of a version are those of its weights as stored; it is promoted by rule and published once."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.ledger import Ledger
from db.models import current_model, get_model
from db.trainings import Training, add_training, get_training, requeue_training
from tests.support.made_versions import make_current, make_version, reference_scores
from worker.errors import ModelError
from worker.model.metadata import read_metadata, write_metadata
from worker.model.network import load_model
from worker.model.store import ModelStore
from worker.settings import Settings
from worker.train.dataset import DatasetError, LabelledDataset
from worker.train.evaluation import evaluate_model
from worker.train.held_out import pack_digests, trained_on
from worker.train.job import TrainingJob
from worker.train.metrics import compute_metrics
from worker.train.options import TrainOptions, version_name
from worker.train.publish import find_finished_build, publish
from worker.train.recipe import Recipe
from worker.train.splits import train_val_split
from worker.train.task import run_training

MakeFolder = Callable[..., Path]


def ask(ledger: Ledger, dataset: Path, recipe: Recipe, **options: Any) -> Training:
    return ledger.write(
        add_training,
        dataset=str(dataset),
        recipe=recipe.model_dump(mode="json"),
        init_weights="none",
        options=TrainOptions(**options).model_dump(mode="json"),
        epochs=recipe.epochs,
    )


def test_evaluate_gives_the_figures_that_measure_gives(
    known: Ledger,
    settings: Settings,
    store: ModelStore,
    dataset: LabelledDataset,
    tiny_recipe: Recipe,
    tmp_path: Path,
) -> None:
    folder = make_version(tmp_path / "made", "v-1", tiny_recipe, dataset.classes)
    make_current(known, store, folder, "v-1", dataset.classes)
    (dataset.root / "Clear" / "broken.png").write_bytes(b"\x89PNG")
    found = evaluate_model(settings, known.query(get_model, "v-1"), store, dataset.root, tmp_path / "out")
    expected = compute_metrics(
        np.array(dataset.labels), reference_scores(folder, dataset), dataset.classes, temperature=1.5
    )
    assert found.metrics.confusion == expected.confusion
    for name in ("auc", "accuracy", "log_loss", "brier", "brier_with_temperature", "sensitivity"):
        assert getattr(found.metrics, name) == pytest.approx(getattr(expected, name), abs=1e-5), name
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["figures"] == json.loads(found.metrics.model_dump_json())
    assert written["model"] == "v-1"
    assert [item["reason"] for item in written["skipped"]] == ["truncated"]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "metrics.json", "roc.png", "confusion.png", "reliability.png", "worst_mistakes.png",
    }  # fmt: skip


def test_a_name_that_is_taken_is_never_taken_twice(
    known: Ledger, store: ModelStore, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    training = ask(known, tmp_path / "My Data!", tiny_recipe)
    options = TrainOptions()
    assert version_name(known, store, training, options) == "my-data-1"
    store.publish(make_version(tmp_path / "a", "my-data-1", tiny_recipe, ("a", "b")))
    assert version_name(known, store, training, options) == "my-data-1-2"
    with pytest.raises(ModelError, match="my-data-1 already; 'xraycam train --resume 1 --version NAME'"):
        version_name(known, store, training, TrainOptions(version="my-data-1"))


def test_publishing_again_after_a_crash_gives_one_version_and_another_content_is_refused(
    known: Ledger,
    store: ModelStore,
    dataset: LabelledDataset,
    settings: Settings,
    tiny_recipe: Recipe,
    tmp_path: Path,
) -> None:
    training = ask(known, dataset.root, tiny_recipe, promote="always")
    run_training(settings, known, "trainer", training.id)
    assert known.query(get_training, training.id).error is None
    version = known.query(get_training, training.id).version
    assert version == "data-1"
    folder = store.fetch(version, known.query(get_model, version).digest)
    publish(known, store, folder, source="again", promote=True)
    assert known.query(current_model) == known.query(get_model, version)
    assert known.query(get_model, version).source.startswith("training 1 on ")
    other = make_version(tmp_path / "other", version, tiny_recipe, dataset.classes)
    with pytest.raises(ModelError, match=version):
        publish(known, store, other, source="other", promote=True)
    assert find_finished_build(tmp_path / "nothing", TrainOptions()) is None


def test_a_crash_while_publishing_leaves_what_a_resume_publishes_without_training_again(
    known: Ledger,
    store: ModelStore,
    dataset: LabelledDataset,
    settings: Settings,
    tiny_recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    training = ask(known, dataset.root, tiny_recipe, promote="always")
    with monkeypatch.context() as crashing:
        crashing.setattr("worker.train.publish.add_model", crash)
        run_training(settings, known, "trainer", training.id)
    failed = known.query(get_training, training.id)
    assert failed.state == "failed"
    assert "OSError: no space left; the log of worker trainer" in (failed.error or "")
    assert store.exists("data-1")  # whole, but no worker is told of it
    assert known.query(current_model) is None
    monkeypatch.setattr("worker.train.job.fit", crash)
    known.write(requeue_training, training.id)
    run_training(settings, known, "trainer", training.id)
    done = known.query(get_training, training.id)
    assert (done.state, done.version, done.error) == ("done", "data-1", None)
    current = known.query(current_model)
    assert current is not None
    assert store.fetch("data-1", current.digest).is_dir()


def test_the_figures_of_a_version_are_those_of_its_stored_weights(
    known: Ledger,
    store: ModelStore,
    dataset: LabelledDataset,
    settings: Settings,
    tiny_recipe: Recipe,
    make_folder: MakeFolder,
) -> None:
    test = make_folder("test", seed=2, Clear=5, Opaque=5)
    # One image of the test folder was trained on.
    (test / "Clear" / "seen.png").write_bytes(dataset.files[0].read_bytes())
    training = ask(known, dataset.root, tiny_recipe, promote="always", test=str(test), version="mine")
    run_training(settings, known, "trainer", training.id)
    done = known.query(get_training, training.id)
    assert (done.state, done.version, done.error) == ("done", "mine", None)
    folder = store.fetch("mine", known.query(get_model, "mine").digest)
    description, _ = load_model(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["images"] == {"Clear": 5, "Opaque": 5}
    assert metrics["test"]["also_in_dataset"] == 1
    assert metrics["validation"] == description.training["validation"]
    (test / "Clear" / "seen.png").unlink()
    found = evaluate_model(settings, known.query(get_model, "mine"), store, test, folder.parent / "out")
    for name in ("auc", "brier", "log_loss", "brier_with_temperature"):
        assert found.figures[name] == pytest.approx(metrics["test"][name], abs=1e-6), name
    assert found.figures["confusion"] == metrics["test"]["confusion"]
    names = {file.name for file in folder.iterdir()}
    pictures = {"roc.png", "confusion.png", "reliability.png", "worst_mistakes.png"}
    assert names == {
        "model.json", "weights.safetensors", "input_check.safetensors", "MODEL_CARD.md", "metrics.json",
        "learning_curves.png",
        *pictures, *(f"test_{name}" for name in pictures),
    }  # fmt: skip
    assert known.query(get_model, "mine").metrics["auc"] == metrics["validation"]["auc"]
    assert not (settings.home / "trainings" / "1").exists()


def test_a_training_that_cannot_be_done_says_why_in_its_row(
    known: Ledger, settings: Settings, dataset: LabelledDataset, tiny_recipe: Recipe
) -> None:
    for file in (dataset.root / "Opaque").iterdir():
        file.write_bytes(b"not an image")
    training = ask(known, dataset.root, tiny_recipe)
    run_training(settings, known, "trainer", training.id)
    failed = known.query(get_training, training.id)
    assert (failed.state, failed.version) == ("failed", None)
    assert failed.error == (
        f"{dataset.root}: too few usable images in Opaque (0); each class needs at least 4; "
        "left out: 10 not-an-image"
    )
    assert known.query(current_model) is None


def test_a_training_that_diverges_publishes_nothing(
    known: Ledger, settings: Settings, store: ModelStore, dataset: LabelledDataset, tiny_recipe: Recipe
) -> None:
    stages = ({"epochs": 3, "learning_rate": 1e30, "schedule": "constant"},)
    recipe = Recipe.model_validate(
        tiny_recipe.model_dump()
        | {"stages": stages, "clip_norm": 0.0, "ema_decay": 0.0, "bn_recalibration_images": 0}
    )
    training = ask(known, dataset.root, recipe, promote="always")
    run_training(settings, known, "trainer", training.id)
    failed = known.query(get_training, training.id)
    assert failed.state == "failed"
    assert re.search("diverged|NaN", failed.error or "")
    assert not store.exists("data-1")


def test_the_test_folder_is_judged_without_patients_of_the_training_folder(
    known: Ledger, settings: Settings, tiny_recipe: Recipe, make_folder: MakeFolder
) -> None:
    folder, test = make_folder("data", Clear=5, Opaque=5), make_folder("test", seed=2, Clear=3, Opaque=3)
    (test / "Clear" / "copy-003.png").write_bytes((folder / "Clear" / "clear-003.png").read_bytes())
    for name in ("Clear/clear-001.png", "Opaque/opaque-001.png"):
        (test / name).rename(test / name.replace("001", "901"))

    def unseen(group_by: str) -> list[str]:
        training = ask(known, folder, tiny_recipe, test=str(test), group_by=group_by)
        job = TrainingJob(settings, known, "trainer", training, None)
        found = job._test_part(job._scan(str(folder)))
        assert found is not None
        return sorted(found[0].files[index].name for index in found[1])

    assert len(unseen("none")) == 6, "the copy alone is known"
    assert unseen(r"\d+") == ["clear-901.png", "opaque-901.png"]
    for name in ("Clear/clear-901.png", "Opaque/opaque-901.png"):
        (test / name).unlink()
    with pytest.raises(DatasetError, match=r"images of Clear, Opaque, or others of their patients, are in"):
        unseen(r"\d+")


def test_copies_of_an_image_judge_once(
    known: Ledger, settings: Settings, tiny_recipe: Recipe, make_folder: MakeFolder, caplog: Any
) -> None:
    folder, test = make_folder("data", Clear=12, Opaque=12), make_folder("test", seed=2, Clear=3, Opaque=3)
    for file in sorted((folder / "Clear").iterdir()):
        file.with_name("again-" + file.name).write_bytes(file.read_bytes())
    for number in range(7):
        (test / "Clear" / f"again-{number}.png").write_bytes((test / "Clear" / "clear-000.png").read_bytes())
    training = ask(known, folder, tiny_recipe, test=str(test))
    job = TrainingJob(settings, known, "trainer", training, None)
    dataset = job._scan(str(folder))
    parts, _ = job._parts(dataset)
    whole = train_val_split(dataset, share=tiny_recipe.validation_share, seed=tiny_recipe.seed)
    judging = [dataset.sha256[index] for index in parts.validation]
    assert len(set(judging)) == len(judging) < len(whole.validation)
    assert parts.training == whole.training, "what was left out is learned from neither"
    found = job._test_part(dataset)
    assert found is not None
    assert found[0].counts(found[1]) == {"Clear": 3, "Opaque": 3}
    assert "--test: 7 of these 13 images have the content of others" in caplog.text


def test_a_test_folder_whose_names_tell_no_patient_is_judged_by_content(
    known: Ledger, settings: Settings, tiny_recipe: Recipe, make_folder: MakeFolder, caplog: Any
) -> None:
    folder, test = make_folder("data", Clear=5, Opaque=5), make_folder("test", seed=2, Clear=3, Opaque=3)
    for file in (folder / "Clear").iterdir():
        file.rename(file.with_name("p" + file.name))
    for file in (folder / "Opaque").iterdir():
        file.rename(file.with_name("p" + file.name))
    training = ask(known, folder, tiny_recipe, test=str(test), group_by=r"^p.*")
    job = TrainingJob(settings, known, "trainer", training, None)
    found = job._test_part(job._scan(str(folder)))
    assert found is not None
    assert len(found[1]) == 6
    assert "of patients in the training folder only equal files are left out" in caplog.text


def test_a_training_from_a_version_is_judged_on_images_that_neither_has_seen(
    known: Ledger,
    store: ModelStore,
    dataset: LabelledDataset,
    settings: Settings,
    tiny_recipe: Recipe,
    make_folder: MakeFolder,
    tmp_path: Path,
) -> None:
    plain = train_val_split(dataset, share=tiny_recipe.validation_share, seed=tiny_recipe.seed)
    seen = [plain.validation[0], plain.training[0]]
    folder = make_version(tmp_path / "made", "old-1", tiny_recipe, dataset.classes)
    metadata, others = read_metadata(folder), "ab" * 32
    test = make_folder("test", seed=2, Clear=2, Opaque=2)
    also = hashlib.sha256((test / "Clear" / "clear-000.png").read_bytes()).hexdigest()
    packed = pack_digests([*(dataset.sha256[index] for index in seen), others, also])
    record = {**metadata.training, "training_images": packed}
    write_metadata(folder, metadata.model_copy(update={"training": record}))
    make_current(known, store, folder, "old-1", dataset.classes)
    training = known.write(
        add_training,
        dataset=str(dataset.root),
        recipe=tiny_recipe.model_dump(mode="json"),
        init_weights="old-1",
        options=TrainOptions(version="new-1", promote="never", test=str(test)).model_dump(mode="json"),
        epochs=tiny_recipe.epochs,
    )
    run_training(settings, known, "trainer", training.id)
    done = known.query(get_training, training.id)
    assert (done.state, done.error) == ("done", None)
    made = read_metadata(store.fetch("new-1", known.query(get_model, "new-1").digest)).training
    assert made["data"]["earlier"] == {"version": "old-1", "is_known": True, "moved": 1}
    assert sum(made["validation"]["images"].values()) == len(plain.validation) - 1
    assert made["test"]["images"] == {"Clear": 1, "Opaque": 2}
    learned = trained_on(made, [*dataset.sha256, others])
    assert learned is not None
    assert [index for index, was in enumerate(learned[:-1]) if not was] == list(plain.validation[1:])
    assert learned[-1], "images that only the old version has seen"
