"""Images that the version to start from has learned from are nothing to judge its heir on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from producer.training_progress import describe_left_out
from worker.model.metadata import read_metadata
from worker.model.store import STARTER
from worker.train.dataset import DatasetError, LabelledDataset, load_labelled_folder
from worker.train.earlier_training import EarlierTraining, earlier_training, without_learned
from worker.train.held_out import in_digests, pack_digests, trained_on
from worker.train.splits import Split

MakeFolder = Callable[..., Path]
PARTS = Split(training=(0, 1, 2, 5, 6, 7), validation=(3, 4, 8, 9))


@pytest.fixture
def dataset(make_folder: MakeFolder) -> LabelledDataset:
    return load_labelled_folder(make_folder(Clear=5, Opaque=5), min_per_class=4)


def learned(dataset: LabelledDataset, *indices: int) -> EarlierTraining:
    return EarlierTraining("old-1", pack_digests(dataset.sha256[index] for index in indices))


def test_they_go_to_the_training_part_and_are_counted(dataset: LabelledDataset) -> None:
    parts, earlier = without_learned(dataset, PARTS, learned(dataset, 0, 3, 8))
    assert parts == Split(training=(0, 1, 2, 3, 5, 6, 7, 8), validation=(4, 9))
    assert earlier.moved == 2
    assert without_learned(dataset, PARTS, learned(dataset, 0, 3, 8))[0] == parts, "also when resumed"
    (said,) = describe_left_out({"earlier": earlier.record}, None)
    assert said.startswith("warning: old-1, from which the training started, had learned from 2 validation")
    assert without_learned(dataset, PARTS, learned(dataset, 0)) == (PARTS, learned(dataset, 0))
    assert list(describe_left_out({"earlier": learned(dataset, 0).record}, None)) == []


def test_other_images_of_their_patients_go_with_them(dataset: LabelledDataset) -> None:
    of_one = replace(dataset, groups=(0, 1, 2, 3, 3, 5, 6, 7, 8, 9))
    parts = Split(training=(0, 1, 5, 6, 7), validation=(2, 3, 4, 8, 9))
    split, earlier = without_learned(of_one, parts, learned(of_one, 3))
    assert (split.validation, earlier.moved) == ((2, 8, 9), 2)


def test_a_class_without_any_left_is_refused(dataset: LabelledDataset) -> None:
    with pytest.raises(DatasetError, match=r"learned from 2 of the 4 validation .*leaves none of Clear"):
        without_learned(dataset, PARTS, learned(dataset, 3, 4))


def test_a_version_that_does_not_say_is_named(dataset: LabelledDataset) -> None:
    parts, earlier = without_learned(dataset, PARTS, EarlierTraining("keras-1", None))
    assert parts == PARTS
    (said,) = describe_left_out({"earlier": earlier.record}, None)
    assert "keras-1, from which the training started, does not say which images" in said


def test_the_record_is_of_model_folders_and_joined_with_the_new_one(dataset: LabelledDataset) -> None:
    assert earlier_training("imagenet") is None
    assert earlier_training(str(STARTER / "weights.safetensors")) is None
    found = earlier_training(str(STARTER))
    assert found is not None
    assert found.version == read_metadata(STARTER).version
    assert found.images == read_metadata(STARTER).training["training_images"]
    both = pack_digests(dataset.sha256[:2], pack_digests(dataset.sha256[1:4]))
    assert in_digests(both, dataset.sha256) == trained_on({"training_images": both}, dataset.sha256)
    assert in_digests(both, dataset.sha256) == 4 * [True] + 6 * [False]
