"""Scanning a labelled folder and splitting it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.made_dicom import dicom, picture
from worker.train.annotations import FindingAnnotations, find_annotations
from worker.train.dataset import DatasetError, load_labelled_folder
from worker.train.dataset_layout import class_names
from worker.train.labels import LabelSource, load_labels
from worker.train.splits import Split, fold_splits, train_val_split

MakeFolder = Callable[..., Path]


def test_each_sub_folder_is_a_class_in_the_order_of_names(make_folder: MakeFolder) -> None:
    dataset = load_labelled_folder(make_folder(Opaque=4, Clear=6), min_per_class=2)
    assert dataset.classes == ("Clear", "Opaque")
    assert dataset.counts() == {"Clear": 6, "Opaque": 4}
    assert all(
        file.parent.name == dataset.classes[n] for file, n in zip(dataset.files, dataset.labels, strict=True)
    )


def test_three_classes_are_scanned_and_split(make_folder: MakeFolder) -> None:
    dataset = load_labelled_folder(make_folder(A=10, B=20, C=30), min_per_class=2)
    parts = train_val_split(dataset, share=0.2, seed=1)
    assert dataset.counts(parts.validation) == {"A": 2, "B": 4, "C": 6}
    assert dataset.counts(parts.training) == {"A": 8, "B": 16, "C": 24}


def test_files_that_do_not_decode_are_listed_and_left_out(make_folder: MakeFolder) -> None:
    folder = make_folder(Clear=5, Opaque=5)
    (folder / "Clear" / "empty.png").touch()
    (folder / "Opaque" / "text.png").write_text("not an image")
    (folder / "Opaque" / ".hidden.png").write_text("not looked at")
    dataset = load_labelled_folder(folder, min_per_class=2)
    assert len(dataset) == 10
    assert {item.file.name: item.reason for item in dataset.skipped} == {
        "empty.png": "empty",
        "text.png": "not-an-image",
    }


def test_a_class_with_too_few_images_is_refused_with_name_and_count(make_folder: MakeFolder) -> None:
    with pytest.raises(DatasetError, match=r"Opaque \(3\).*at least 5"):
        load_labelled_folder(make_folder(Clear=8, Opaque=3), min_per_class=5)


def test_one_class_or_no_folder_is_refused(make_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="one sub-folder, Clear;"):
        load_labelled_folder(make_folder(Clear=3))
    with pytest.raises(DatasetError, match="no such folder"):
        load_labelled_folder(tmp_path / "nowhere")


def test_identical_files_are_never_on_both_sides(make_folder: MakeFolder) -> None:
    folder = make_folder(Clear=20, Opaque=20)
    for number in range(8):
        shutil.copy(folder / "Clear" / f"{number:03}.png", folder / "Clear" / f"copy-{number}.png")
    dataset = load_labelled_folder(folder, min_per_class=2)
    for seed in range(5):
        for parts in [
            train_val_split(dataset, share=0.3, seed=seed),
            *fold_splits(dataset, folds=4, seed=seed),
        ]:
            assert_apart(dataset.sha256, parts)


def test_the_same_content_in_two_classes_is_left_out(make_folder: MakeFolder) -> None:
    folder = make_folder(Clear=5, Opaque=5)
    shutil.copy(folder / "Clear" / "000.png", folder / "Opaque" / "copy.png")
    dataset = load_labelled_folder(folder, min_per_class=2)
    assert [item.reason for item in dataset.skipped] == ["labelled-twice"] * 2
    assert dataset.counts() == {"Clear": 4, "Opaque": 5}


def test_a_patients_files_stay_together(make_folder: MakeFolder) -> None:
    folder = make_folder(Clear=24, Opaque=24)
    for class_folder in folder.iterdir():
        for number, file in enumerate(sorted(class_folder.iterdir())):
            file.rename(class_folder / f"patient{number // 3}-{class_folder.name}-{number}.png")
    dataset = load_labelled_folder(folder, min_per_class=2, group_by=r"^(patient\d+)-")
    patients = tuple(file.name.split("-")[0] for file in dataset.files)
    for seed in range(5):
        assert_apart(patients, train_val_split(dataset, share=0.25, seed=seed))
    with pytest.raises(DatasetError, match="does not match"):
        load_labelled_folder(folder, min_per_class=2, group_by=r"^subject")
    with pytest.raises(DatasetError, match="not a regular expression"):
        load_labelled_folder(folder, min_per_class=2, group_by="(")


def test_dicom_files_of_a_patient_stay_together_unless_told_otherwise(tmp_path: Path) -> None:
    for number in range(24):
        folder = tmp_path / ("Normal" if number % 2 else "Tuberculosis")
        folder.mkdir(exist_ok=True)
        content = dicom(picture() + number, PatientID=f"P{number // 4}", BitsStored=16)
        (folder / f"{number:02}.dcm").write_bytes(content)
    for group_by in (None, "patient"):
        found = load_labelled_folder(tmp_path, group_by=group_by)
        patients = tuple(f"P{int(file.stem) // 4}" for file in found.files)
        assert len(set(zip(found.groups, patients, strict=True))) == len(set(found.groups)) == 6
        assert_apart(patients, train_val_split(found, share=0.3, seed=1))
    assert len(set(load_labelled_folder(tmp_path, group_by="none").groups)) == 24


def test_a_split_is_seeded_and_stratified(make_folder: MakeFolder) -> None:
    dataset = load_labelled_folder(make_folder(Clear=30, Opaque=10), min_per_class=2)
    parts = train_val_split(dataset, share=0.2, seed=12)
    assert parts == train_val_split(dataset, share=0.2, seed=12)
    assert parts != train_val_split(dataset, share=0.2, seed=13)
    assert dataset.counts(parts.validation) == {"Clear": 6, "Opaque": 2}
    assert sorted(parts.training + parts.validation) == list(range(40))


def test_every_image_is_held_out_in_exactly_one_fold(make_folder: MakeFolder) -> None:
    dataset = load_labelled_folder(make_folder(Clear=12, Opaque=9), min_per_class=2)
    held_out = [index for parts in fold_splits(dataset, folds=3, seed=0) for index in parts.validation]
    assert sorted(held_out) == list(range(21))


def test_images_beyond_the_memory_limit_are_read_again(make_folder: MakeFolder) -> None:
    folder = make_folder(Clear=4, Opaque=4)
    kept = load_labelled_folder(folder, min_per_class=2)
    read_again = load_labelled_folder(folder, min_per_class=2, memory=0)
    for index in range(len(kept)):
        np.testing.assert_array_equal(kept.radiograph(index).pixels, read_again.radiograph(index).pixels)


def test_two_files_of_marked_areas_are_refused_rather_than_one_of_them_left_out(
    make_folder: MakeFolder,
) -> None:
    folder = make_folder(Clear=2, Opaque=2)
    assert find_annotations(folder) is None
    for name in ("regions_a.json", "lesions_b.json"):
        (folder / name).write_text("{}")
    with pytest.raises(DatasetError, match=r"lesions_b.json and regions_a.json mark areas.* unite them"):
        find_annotations(folder)


def test_marked_findings_come_from_polygons_or_masks(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(Clear=3, Opaque=3)
    square = [[10, 20], [30, 20], [30, 40], [10, 40]]
    (folder / "regions.json").write_text(json.dumps({"000.png": {"regions": [{"points": square}]}}))
    for class_folder in folder.glob("Clear"):
        for file in class_folder.iterdir():
            file.rename(file.with_name(f"c{file.name}"))
    dataset = load_labelled_folder(folder, min_per_class=2)
    source = find_annotations(folder)
    assert source is not None
    regions = FindingAnnotations(source, dataset)
    marked = regions.of(3)
    assert marked is not None
    assert marked.getbbox() == (10, 20, 31, 41)
    assert regions.of(4) is None, "of a class with findings, but not marked"
    clear = regions.of(0)
    assert clear is not None
    assert clear.getbbox() is None

    masks = tmp_path / "masks"
    masks.mkdir()
    marked.resize((48, 48)).save(masks / "000.png")
    from_mask = FindingAnnotations(masks, dataset).of(3)
    assert from_mask is not None
    assert from_mask.size == (96, 96)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DatasetError, match="marks no image"):
        FindingAnnotations(empty, dataset)
    (masks / "000.png").rename(masks / "other.png")
    with pytest.raises(DatasetError, match="marks none of the images"):
        FindingAnnotations(masks, dataset)


def test_a_regions_file_of_another_form_is_refused(make_folder: MakeFolder) -> None:
    folder = make_folder(Clear=3, Opaque=3)
    dataset = load_labelled_folder(folder, min_per_class=2)
    (folder / "regions.json").write_text("[1, 2]")
    with pytest.raises(DatasetError, match="does not hold marked areas"):
        FindingAnnotations(folder / "regions.json", dataset)


def assert_apart(keys: tuple[str, ...], parts: Split) -> None:
    assert not {keys[i] for i in parts.training} & {keys[i] for i in parts.validation}
    assert parts.validation


def test_deleted_files_and_masks_are_neither_classes_nor_images(make_folder: MakeFolder) -> None:
    folder = make_folder(Clear=6, Opaque=6)
    for place in (
        "Opaque/.Trash-1000/files",
        "Opaque/.ipynb_checkpoints",
        "Clear/masks",
        "leftMask",
        "@eaDir",
    ):
        (folder / place).mkdir(parents=True)
        shutil.copy(folder / "Clear" / "000.png", folder / place / "000.png")
    shutil.copy(folder / "Clear" / "000.png", folder / "Opaque" / "000_mask.png")
    dataset = load_labelled_folder(folder, min_per_class=2)
    assert dataset.counts() == {"Clear": 6, "Opaque": 6}
    assert dataset.skipped == ()
    assert [line.partition(" such as")[0].split()[1] for line in dataset.passed_over] == ["1", "2", "3"]


def test_images_of_no_class_or_of_another_are_counted_as_left_out(make_folder: MakeFolder) -> None:
    """A threshold measured without the other diseases of a folder looks more specific than it is."""
    folder = make_folder(Clear=6, Opaque=6, Other=3, Normal=2)
    shutil.copy(folder / "Clear" / "000.png", folder / "loose.png")
    (folder / "notes.txt").write_text("no image")

    def said(**given: Any) -> list[str]:
        dataset = load_labels(LabelSource(folder, findings=bool(given.pop("findings", False))), **given)
        return [line.partition("skipped: ")[2] for line in dataset.passed_over]

    alone = "1 image in no sub-folder, and so of no class, such as loose.png"
    assert said(min_per_class=2) == [alone]
    of_two = {"classes": ("Clear", "Opaque"), "min_per_class": 1}
    other = "images in sub-folders that are no class of the model, such as"
    assert said(**of_two) == [f"5 {other} Normal/000.png", alone]
    assert said(**of_two, findings=True) == [f"3 {other} Other/000.png", alone], "Normal has no finding"


def test_what_xraycam_wrote_is_neither_a_class_nor_images(make_folder: MakeFolder) -> None:
    folder = make_folder(Clear=6, Opaque=6)
    for place in (
        "xraycam-data/overlays/run-000001/Clear",
        "Opaque/out/run-000002",
        "figures",
    ):
        (folder / place).mkdir(parents=True)
        shutil.copy(folder / "Clear" / "000.png", folder / place / "000.png.png")
    (folder / "xraycam-data" / "ledger.sqlite3").touch()
    (folder / "xraycam-data" / "overlays" / "run-000001" / "xraycam-run.json").touch()
    (folder / "Opaque" / "out" / "run-000002" / "xraycam-run.json").touch()
    (folder / "figures" / "xraycam-output.json").touch()
    assert class_names(folder) == ("Clear", "Opaque")
    dataset = load_labelled_folder(folder, min_per_class=2)
    assert dataset.counts() == {"Clear": 6, "Opaque": 6}
    assert [line.partition(" (")[0] for line in dataset.passed_over] == ["skipped: 7 files of xraycam"]
    with pytest.raises(DatasetError, match=r"DATASET .*run-000001 holds what xraycam wrote"):
        class_names(folder / "xraycam-data" / "overlays" / "run-000001", what="DATASET")


def test_a_home_that_holds_the_classes_is_trainable(make_folder: MakeFolder) -> None:
    folder = make_folder(Clear=6, Opaque=6, models=2, overlays=1)
    (folder / "ledger.sqlite3").touch()
    assert load_labelled_folder(folder, min_per_class=2).counts() == {"Clear": 6, "Opaque": 6}


@pytest.mark.parametrize(
    "parts", [("train", "val", "test"), ("Training", "Validation"), ("TRAIN", "valid"), ("fold_1", "fold_2")]
)
def test_parts_of_a_data_set_are_refused_as_classes(make_folder: MakeFolder, parts: tuple[str, ...]) -> None:
    with pytest.raises(DatasetError, match=r"parts of a data set, not classes; name .*/") as refusal:
        load_labelled_folder(make_folder(**dict.fromkeys(parts, 3)), min_per_class=2)
    assert ("--test" in str(refusal.value)) == ("test" in parts)
