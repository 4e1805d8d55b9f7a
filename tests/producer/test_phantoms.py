"""What the synthetic X-rays promise: honest, known, repeatable, and never at the cost of other files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw

from producer.commands.phantoms import phantoms_command
from producer.phantoms import make_phantoms
from producer.phantoms.folder import draw_phantom
from worker.errors import XraycamError

SIZE = 192


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms")
    make_phantoms(folder, 12, seed=5, size=SIZE, classes=True)
    return folder


def outlines(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "lesions.json").read_text())
    return found


def gray(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image, np.float32)


def filled(regions: list[dict[str, Any]], size: int, grow: float = 1.0) -> np.ndarray[Any, Any]:
    mask = Image.new("L", (size, size))
    for region in regions:
        corners = np.array(region["points"])
        corners = corners.mean(axis=0) + grow * (corners - corners.mean(axis=0))
        ImageDraw.Draw(mask).polygon(corners.ravel().tolist(), fill=1)
    return np.asarray(mask, bool)


def test_half_of_a_dataset_is_ill_and_only_the_ill_have_lesions(dataset: Path) -> None:
    ill = {path.name for path in (dataset / "Tuberculosis").iterdir()}
    normal = {path.name for path in (dataset / "Normal").iterdir()}
    assert len(ill) == len(normal) == 6
    assert not ill & normal
    assert set(outlines(dataset)) == ill


def test_flat_folder_has_the_same_pictures_as_the_dataset(dataset: Path, tmp_path: Path) -> None:
    make_phantoms(tmp_path, 12, seed=5, size=SIZE)
    flat = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    assert flat == {path.name: path.read_bytes() for path in dataset.glob("*/*.png")}
    assert sorted(flat)[0] == "phantom-0001.png"
    assert outlines(tmp_path) == outlines(dataset)


def test_picture_depends_on_seed_and_number_not_on_the_count(dataset: Path, tmp_path: Path) -> None:
    make_phantoms(tmp_path / "few", 3, seed=5, size=SIZE)
    make_phantoms(tmp_path / "other", 3, seed=6, size=SIZE)
    few = (tmp_path / "few/phantom-0002.png").read_bytes()
    assert few == (dataset / "Tuberculosis/phantom-0002.png").read_bytes()
    assert few != (tmp_path / "other/phantom-0002.png").read_bytes()


def test_pictures_are_square_gray_8_bit_and_all_different(dataset: Path) -> None:
    pictures = [gray(path) for path in sorted(dataset.glob("*/*.png"))]
    assert {picture.shape for picture in pictures} == {(SIZE, SIZE)}
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_lungs_are_darker_than_the_middle_and_brighter_than_the_air(dataset: Path) -> None:
    for path in dataset.glob("*/*.png"):
        picture = gray(path) / 255
        at = {
            name: np.median(picture[int(y * SIZE) - 4 :, int(x * SIZE) - 4 :][:9, :9])
            for name, x, y in [("lung", 0.29, 0.42), ("spine", 0.5, 0.5), ("air", 0.03, 0.9)]
        }
        assert at["air"] + 0.1 < at["lung"] < at["spine"] - 0.2


def test_lesion_polygons_have_the_form_of_the_radiologists_polygons(dataset: Path) -> None:
    for entry in outlines(dataset).values():
        assert entry["orig_height"] == entry["orig_width"] == SIZE
        assert 1 <= len(entry["regions"]) <= 3
        for region in entry["regions"]:
            assert region["shape"] == "polygon"
            assert len(region["labels"]) == 1
            corners = np.array(region["points"])
            assert corners.shape[1] == 2
            assert len(corners) >= 9
            assert corners.min() >= 0
            assert corners.max() < SIZE


def test_all_of_a_lesion_lies_inside_its_polygon_and_is_visible() -> None:
    for number in range(1, 9):
        ill, regions = draw_phantom(3, number, 256, ill=True, marked=False)
        well, none = draw_phantom(3, number, 256, ill=False, marked=False)
        added = np.asarray(ill, np.float32) - np.asarray(well, np.float32)
        assert none == []
        assert added[filled(regions, 256)].mean() > 8
        assert not added[~filled(regions, 256, grow=1.1)].any()


def test_lesions_of_one_picture_do_not_overlap(dataset: Path) -> None:
    for entry in outlines(dataset).values():
        areas = [filled([region], SIZE) for region in entry["regions"]]
        assert np.sum(areas, axis=0).max() == 1


def test_every_picture_and_folder_says_synthetic(dataset: Path) -> None:
    assert "SYNTHETIC" in (dataset / "README.txt").read_text()
    for path in dataset.glob("*/*.png"):
        edge = gray(path)[-12:, SIZE // 2 - 20 : SIZE // 2 + 20]
        assert (edge > 200).any()
        assert (edge < 10).any()


def test_corner_marker_is_in_all_pictures_of_its_class_and_in_no_other(tmp_path: Path, dataset: Path) -> None:
    make_phantoms(tmp_path, 8, seed=5, size=SIZE, classes=True, corner_marker="Tuberculosis")
    corner = np.s_[5:12, 5:19]
    assert all((gray(path)[corner] == 255).all() for path in (tmp_path / "Tuberculosis").iterdir())
    for path in (tmp_path / "Normal").iterdir():
        assert path.read_bytes() == (dataset / "Normal" / path.name).read_bytes()
        assert not (gray(path)[corner] == 255).any()
    assert "marker" in (tmp_path / "README.txt").read_text()


def test_phantoms_made_before_are_replaced(tmp_path: Path) -> None:
    make_phantoms(tmp_path, 4, seed=1, size=64, classes=True)
    make_phantoms(tmp_path, 2, seed=1, size=64)
    names = sorted(path.name for path in tmp_path.rglob("*"))
    assert names == ["README.txt", "lesions.json", "phantom-0001.png", "phantom-0002.png"]


@pytest.mark.parametrize("foreign", ["patient.png", "phantom-0001.png", "notes/a.txt", "Normal/patient.png"])
def test_folder_with_anything_else_is_refused_and_left_as_it_is(tmp_path: Path, foreign: str) -> None:
    (tmp_path / foreign).parent.mkdir(exist_ok=True)
    (tmp_path / foreign).write_text("mine")
    with pytest.raises(XraycamError, match="something else than phantoms"):
        make_phantoms(tmp_path, 2, seed=1, size=64)
    assert (tmp_path / foreign).read_text() == "mine"
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 1


def test_file_added_to_a_folder_of_phantoms_keeps_it_from_being_replaced(tmp_path: Path) -> None:
    make_phantoms(tmp_path, 2, seed=1, size=64)
    (tmp_path / "mine.dcm").write_text("mine")
    with pytest.raises(XraycamError, match=r"mine\.dcm"):
        make_phantoms(tmp_path, 2, seed=2, size=64)
    assert (tmp_path / "phantom-0001.png").exists()


def test_link_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    real = tmp_path / "archive"
    real.mkdir()
    (real / "phantom-0001.png").write_text("mine")
    folder = tmp_path / "phantoms"
    make_phantoms(folder, 2, seed=1, size=64)
    (folder / "Normal").symlink_to(real)
    with pytest.raises(XraycamError, match="Normal"):
        make_phantoms(folder, 2, seed=1, size=64)
    assert (real / "phantom-0001.png").read_text() == "mine"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"count": 0}, "0 phantoms"),
        ({"seed": -1}, "seed -1"),
        ({"size": 20}, "20 pixels"),
        ({"corner_marker": "TB"}, "'TB'.*Normal or Tuberculosis"),
    ],
)
def test_wrong_request_is_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    request = {"count": 2, "seed": 1, "size": 64} | wrong
    with pytest.raises(XraycamError, match=said):
        make_phantoms(tmp_path / "new", **request)
    assert not (tmp_path / "new").exists()


def test_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(XraycamError, match="is a file"):
        make_phantoms(tmp_path / "file", 1, seed=1, size=64)


def test_command_makes_what_its_options_say(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    options = ["--count", "4", "--seed", "9", "--size", "64", "--classes", "--corner-marker", "Normal"]
    result = CliRunner().invoke(phantoms_command, [str(folder), *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert str(folder) in result.output
    assert len(list((folder / "Normal").glob("*.png"))) == 2
    assert (gray(folder / "Normal/phantom-0001.png")[2:4, 2:6] == 255).all()


def test_drawing_needs_neither_tensorflow_nor_the_rest_of_the_worker() -> None:
    script = "import sys, producer.phantoms; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not {"tensorflow", "keras", "scipy", "celery"} & set(loaded.split())
