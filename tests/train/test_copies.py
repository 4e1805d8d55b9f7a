"""A copy of an image is not another image: figures of ten copies are not more certain than of one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.train.test_exclusive_sigmoid import metadata_of
from worker.settings import load_settings
from worker.train.dataset import load_labelled_folder
from worker.train.evaluation import labels_for

MakeFolder = Callable[..., Path]


def copied(folder: Path, name: str, times: int) -> None:
    for number in range(times):
        shutil.copy(folder / name, (folder / name).with_name(f"copy-{number}.png"))


@pytest.mark.parametrize("table", [False, True])
def test_evaluate_and_calibrate_count_a_content_once(
    table: bool, make_folder: MakeFolder, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("XRAYCAM_HOME", str(tmp_path / "home"))
    folder = make_folder(Normal=3, Opaque=3)
    copied(folder, "Opaque/000.png", 9)
    source, images = folder, None
    if table:
        source, images = tmp_path / "labels.csv", folder
        rows = [f"{file.relative_to(folder)},{file.parent.name}" for file in folder.glob("*/*.png")]
        source.write_text("\n".join(["path,class", *rows]))
    said: list[str] = []
    dataset = labels_for(metadata_of(exclusive=True), source, images, load_settings(), said.append)
    assert dataset.counts() == {"Normal": 3, "Opaque": 3}
    assert said[-1] == "warning: 9 of these 15 images have the content of others and are not counted again"


def test_the_first_of_equal_files_stands_for_them(make_folder: MakeFolder) -> None:
    folder = make_folder(Clear=4, Opaque=4)
    copied(folder, "Clear/002.png", 2)
    dataset = load_labelled_folder(folder, min_per_class=2)
    names = [dataset.files[index].name for index in dataset.first_of_equal()]
    assert names == ["000.png", "001.png", "002.png", "003.png"] * 2
    assert dataset.first_of_equal([5, 4, 0]) == [5, 0], "copy-1.png and copy-0.png are equal"
