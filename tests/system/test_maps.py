"""Layers, methods and targets on the command line; comparing, ranking and testing maps."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.installation import Installation, draw_xrays, refused


@pytest.fixture
def xrays(installation: Installation) -> Path:
    return draw_xrays(installation.folder / "xrays", 10)


def rows_of(installation: Installation) -> list[dict[str, str]]:
    return list(csv.DictReader(installation.xraycam("results", "--format", "csv").stdout.splitlines()))


def test_several_methods_and_every_class_give_one_picture_with_a_panel_for_each(
    installation: Installation, xrays: Path
) -> None:
    installation.xraycam(
        "run", xrays, "--layer", "auto", "--layer", "block_9_add", "--method", "gradcam", "--method",
        "eigencam", "--target", "all", "--heatmaps", "--output-format", "png",
    )  # fmt: skip
    for row in rows_of(installation):
        assert row["layer"] == "block_12_add,block_9_add"
        assert row["method"] == "gradcam,eigencam"
        assert row["target_class"] == "Normal,Tuberculosis"
    output = installation.home / "overlays" / "run-000001"
    with Image.open(output / "phantom-0001.png.png") as strip:
        # The radiograph and six maps in rows of four; EigenCAM, in which no class has a part, once a layer.
        assert strip.width == 4 * 128 + 3 * 4
        assert strip.height > 2 * 128
    with np.load(output / "phantom-0001.png.npz") as kept:
        assert "block_9_add eigencam" in kept
        assert len([name for name in kept if name.startswith("block_")]) == 6


def test_scorecam_runs_and_says_so(installation: Installation, xrays: Path) -> None:
    installation.xraycam("run", xrays, "--method", "scorecam")
    assert {row["method"] for row in rows_of(installation)} == {"scorecam"}
    assert installation.counts() == {"images": 10, "done": 10}


def test_share_of_heat_in_the_marked_area_is_noted_for_each_image(
    installation: Installation, xrays: Path
) -> None:
    done = installation.xraycam("run", xrays, "--masks", xrays / "lesions.json", "--target", "Tuberculosis")
    marked = json.loads((xrays / "lesions.json").read_text())
    for row in rows_of(installation):
        is_marked = Path(row["path"]).name in marked
        is_blank = row["cam_border_fraction"] == ""
        assert (row["cam_mask_fraction"] != "") == (is_marked and not is_blank)
        for name in ("cam_border_fraction", "cam_corner_fraction", "cam_mask_fraction"):
            assert row[name] == "" or 0 <= float(row[name]) <= 1
    assert "of the heat in the marked area" in done.stdout


def test_comparison_has_layers_across_and_methods_down(installation: Installation, xrays: Path) -> None:
    image = xrays / "phantom-0001.png"
    done = installation.xraycam(
        "compare", image, "--layer", "block_9_add", "--layer", "block_12_add", "--method", "gradcam",
        "--method", "layercam", "--method", "eigencam",
    )  # fmt: skip
    with Image.open(done.stdout.strip()) as picture:
        assert (picture.width, picture.height) == (90 + 3 * 324, 48 + 3 * 324)
    folder = installation.xraycam("compare", xrays, "--limit", 3).stdout.strip()
    assert len(list(Path(folder).glob("*.png"))) == 3
    assert installation.counts() == {"images": 0}


def test_ranking_prints_a_table_and_keeps_picture_and_figures(
    installation: Installation, xrays: Path
) -> None:
    done = installation.xraycam(
        "layers", "--rank", xrays, "--masks", xrays / "lesions.json", "--images", 8, "--layer",
        "block_12_add", "--method", "gradcam", "--method", "layercam",
    )  # fmt: skip
    for words in ("random map", "centred blob", "best: block_12_add", "marked area covers"):
        assert words in done.stdout
    folder = installation.home / "rankings" / "small-on-xrays"
    found = json.loads((folder / "ranking.json").read_text())
    assert found["images"] == 8
    assert len(found["pairs"]) == 2
    assert (folder / "ranking.png").stat().st_size > 5000


def test_sanity_gives_a_plain_verdict(installation: Installation, xrays: Path) -> None:
    done = installation.xraycam("sanity", xrays, "--images", 8)
    assert "passed: " in done.stdout or "failed: " in done.stdout
    assert "first layers" in done.stdout
    folder = installation.home / "sanity" / "small"
    assert len(json.loads((folder / "sanity.json").read_text())["stages"]) == 21
    assert (folder / "sanity.png").stat().st_size > 5000


def test_wrong_use_of_maps_is_refused_in_one_line(installation: Installation, xrays: Path) -> None:
    assert "nowhere cannot be read" in refused(installation, "run", xrays, "--masks", "nowhere")
    assert "near: block_12_add" in refused(installation, "compare", xrays, "--layer", "block_12_ad")
    assert "there is no folder nowhere" in refused(installation, "layers", "--rank", "nowhere")
    assert "no layer 'x'" in refused(installation, "sanity", xrays, "--layer", "x")
    assert "there is no nowhere.png" in refused(installation, "compare", "nowhere.png")
    assert installation.counts() == {"images": 0}
