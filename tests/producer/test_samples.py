"""The sample radiographs: real, cited, copied whole, and held out of all training."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from producer.commands.samples import samples_command
from producer.sample_radiographs import SAMPLES, copy_samples, sample_files
from worker.errors import XraycamError
from worker.model.metadata import read_metadata
from worker.model.store import STARTER
from worker.train.dataset import DatasetError, load_labelled_folder
from worker.train.held_out import sample_digests


def test_there_are_eight_to_twelve_gray_radiographs_of_512_pixels_and_two_classes() -> None:
    assert 8 <= len(sample_files()) <= 12
    assert {file.parent.name for file in sample_files()} == {"Normal", "Tuberculosis"}
    assert {file.parent.name for file in sample_files()} == set(read_metadata(STARTER).classes)
    for file in sample_files():
        with Image.open(SAMPLES / file) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "L", (512, 512))


def test_the_notice_names_the_source_and_both_papers() -> None:
    notice = " ".join((SAMPLES / "NOTICE.txt").read_text(encoding="utf-8").split())
    for part in ("Montgomery County", "US National Library of Medicine", "S. Jaeger", "S. Candemir", "2014"):
        assert part in notice


def test_the_command_copies_them_whole_and_again_without_complaint(tmp_path: Path) -> None:
    for _ in range(2):
        result = CliRunner().invoke(samples_command, [str(tmp_path / "new")], catch_exceptions=False)
        assert result.exit_code == 0
        assert f"{len(sample_files())} real chest X-rays" in result.output
    for file in (*sample_files(), Path("NOTICE.txt")):
        assert (tmp_path / "new" / file).read_bytes() == (SAMPLES / file).read_bytes()
    assert sum(path.is_file() for path in (tmp_path / "new").rglob("*")) == len(sample_files()) + 1


def test_copied_again_only_what_differs_is_written_so_that_a_run_has_nothing_to_do_again(
    tmp_path: Path,
) -> None:
    copy_samples(tmp_path)
    same, damaged = (tmp_path / file for file in sample_files()[:2])
    for file in (same, damaged):
        os.utime(file, (1, 1))
    damaged.write_bytes(b"")

    copy_samples(tmp_path)

    assert same.stat().st_mtime == 1
    assert damaged.read_bytes() == (SAMPLES / sample_files()[1]).read_bytes()


@pytest.mark.parametrize("foreign", ["patient.png", "Normal/patient.png", "notes/a.txt"])
def test_a_folder_with_anything_else_is_refused_and_left_as_it_is(tmp_path: Path, foreign: str) -> None:
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(XraycamError, match="something else than samples"):
        copy_samples(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_is_not_written_through_and_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "new/Normal").symlink_to(tmp_path / "archive")
    with pytest.raises(XraycamError, match="Normal"):
        copy_samples(tmp_path / "new")
    assert not list((tmp_path / "archive").iterdir())
    (tmp_path / "file").write_text("mine")
    with pytest.raises(XraycamError, match="is a file"):
        copy_samples(tmp_path / "file")


def test_the_list_of_images_held_out_is_that_of_the_samples() -> None:
    found = {hashlib.sha256((SAMPLES / file).read_bytes()).hexdigest() for file in sample_files()}
    assert found == sample_digests()


def test_a_training_leaves_samples_out_and_says_so_by_whatever_name(tmp_path: Path) -> None:
    copy_samples(tmp_path)
    for number, name in enumerate(("Normal", "Tuberculosis")):
        shutil.move(next((tmp_path / name).glob("*.png")), tmp_path / name / "renamed.png")
        for gray in range(3):
            Image.effect_noise((64, 64), 40 + gray + 10 * number).save(tmp_path / name / f"own-{gray}.png")
    dataset = load_labelled_folder(tmp_path, min_per_class=2)
    assert dataset.counts() == {"Normal": 3, "Tuberculosis": 3}
    assert [item.reason for item in dataset.skipped] == ["sample"] * len(sample_files())
    assert "held out of all training" in dataset.skipped[0].message
    measured_on = load_labelled_folder(tmp_path, min_per_class=2, samples=True)
    assert len(measured_on) == 6 + len(sample_files())
    assert not measured_on.skipped


def test_samples_alone_are_no_dataset_to_train_on(tmp_path: Path) -> None:
    copy_samples(tmp_path)
    with pytest.raises(DatasetError, match="too few usable images"):
        load_labelled_folder(tmp_path, min_per_class=2)


def test_copying_needs_neither_tensorflow_nor_numpy() -> None:
    script = "import sys, producer.sample_radiographs, producer.commands.samples; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not {"tensorflow", "keras", "numpy"} & set(loaded.split())
