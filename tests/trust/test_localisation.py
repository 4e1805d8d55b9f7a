"""Heat against marked areas, worked out by hand; marked areas from JSON and from masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from worker.errors import ImageError, XraycamError
from worker.explain.attribution import BORDER_AREA, CORNER_AREA, attribution_shares, mask_in_input
from worker.images.masks import AnnotationMasks, load_masks
from worker.map_evaluation.bootstrap import bootstrap_mean
from worker.map_evaluation.localisation import localisation, score_localisation
from worker.model.metadata import Preprocessing

# Left half marked.
AREA = np.zeros((4, 4), np.uint8)
AREA[:, :2] = 255


def test_energy_hit_and_iou_by_hand() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[0] = [1, 0.6, 0.5, 0.1]
    found = score_localisation(heat, AREA)
    assert found.hit == 1
    assert found.energy == pytest.approx(1.6 / 2.2)
    # Half of the maximum is reached in three places, two of them among the eight marked.
    assert found.iou == pytest.approx(2 / 9)
    assert found.area == 0.5


def test_hottest_point_outside_is_a_miss_whatever_the_heat_inside() -> None:
    heat = np.full((4, 4), 0.9, np.float32)
    heat[2, 3] = 1
    assert score_localisation(heat, AREA).hit == 0


def test_blank_map_locates_nothing() -> None:
    found = localisation([np.zeros((2, 2), np.float32), np.ones((2, 2), np.float32)], [AREA, AREA])
    assert found.blank == 1
    assert found.energy.value == pytest.approx(0.25)
    assert (found.hit.images, found.area) == (2, 0.5)


def test_interval_contains_the_mean_and_narrows_with_images() -> None:
    values = np.random.default_rng(0).normal(3, 1, 400)
    wide, narrow = bootstrap_mean(values[:20]), bootstrap_mean(values)
    for mean in (wide, narrow):
        assert mean.low < mean.value < mean.high
    assert narrow.high - narrow.low < (wide.high - wide.low) / 2
    # The standard error of 400 values of spread 1 is 0.05.
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 * 0.05, rel=0.2)


def test_shares_of_even_heat_are_those_of_the_areas() -> None:
    found = attribution_shares(np.ones((7, 7), np.float32), AREA)
    assert found is not None
    assert found.border == pytest.approx(BORDER_AREA) == pytest.approx(1 - 0.75**2)
    assert found.corner == pytest.approx(CORNER_AREA) == pytest.approx(0.25)
    assert found.marked == pytest.approx(0.5)


def test_shares_tell_a_corner_from_the_middle() -> None:
    corner, middle = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    corner[0, 0] = middle[4, 4] = 1
    in_corner, in_middle = attribution_shares(corner), attribution_shares(middle)
    assert in_corner is not None
    assert in_middle is not None
    assert in_corner.corner > 0.99
    assert in_corner.border > 0.7
    assert in_middle.corner == in_middle.border == 0
    assert in_corner.marked is None
    assert attribution_shares(np.zeros((8, 8), np.float32)) is None


def test_polygons_and_masks_mark_the_same(tmp_path: Path) -> None:
    square = {"regions": [{"points": [[10, 20], [39, 20], [39, 49], [10, 49]], "labels": ["nodule"]}]}
    file = tmp_path / "lesions.json"
    file.write_text(json.dumps({"a.png": square, "none.png": {"regions": []}}))
    drawn = AnnotationMasks(file).of("folder/a.png", (100, 80))
    assert drawn is not None
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray((np.asarray(drawn) > 0).astype(np.uint8)).save(masks / "a_mask.png")
    read = AnnotationMasks(masks).of("a.png", (100, 80))
    assert read is not None
    assert read.size == (100, 80)
    np.testing.assert_array_equal(np.asarray(read), np.asarray(drawn))
    assert AnnotationMasks(masks).of("b.png", (100, 80)) is None
    assert AnnotationMasks(file).of("none.png", (100, 80)) is None


def test_a_mask_marks_the_same_in_whatever_form_it_is_drawn(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:256, :256]
    inside = ((rows - 120) / 30) ** 2 + ((columns - 100) / 20) ** 2 < 1
    white, one = np.full((256, 256), 255, np.uint8), inside.astype(np.uint8)
    labels = Image.fromarray(one, "P")
    labels.putpalette([0, 0, 0, 0, 0, 4])
    forms = {
        "gray.png": Image.fromarray(one),
        "bits.png": Image.fromarray(255 * one).convert("1"),
        "deep.png": Image.fromarray(256 * one.astype(np.uint16)),
        "share.tif": Image.fromarray(0.5 * one.astype(np.float32)),
        "palette.png": labels,
        "blue.png": Image.fromarray(np.stack([0 * one, 0 * one, 3 * one], axis=-1)),
        "lossy.jpg": Image.fromarray(255 * one),
        "lossy.webp": Image.fromarray(255 * one),
        "white-on-clear.png": Image.fromarray(np.stack([white, white, white, 255 * one], axis=-1)),
        "gray-on-clear.png": Image.fromarray(np.stack([white, 255 * one], axis=-1)),
        "black-on-clear.png": Image.fromarray(np.stack([0 * one, 255 * one], axis=-1)),
        "opaque.png": Image.fromarray(np.stack([one, one, one, white], axis=-1)),
    }
    for name, picture in forms.items():
        folder = tmp_path / name
        folder.mkdir()
        picture.save(folder / name, quality=70)
        area = AnnotationMasks(folder).of(name, (256, 256))
        assert area is not None, name
        assert set(np.unique(area)) == {0, 255}, name
        assert (np.asarray(area) > 0).sum() == pytest.approx(inside.sum(), rel=0.02), name
    empty = tmp_path / "empty"
    empty.mkdir()
    Image.fromarray(0 * white).save(empty / "a.jpg")
    assert AnnotationMasks(empty).of("a.jpg", (256, 256)) is None


def test_area_is_seen_as_the_network_sees_the_image() -> None:
    area = Image.new("L", (200, 100))
    area.paste(255, (0, 0, 100, 100))
    seen = mask_in_input(area, Preprocessing(size=32, margin=0.1)) > 127
    assert seen[:, :15].all()
    assert not seen[:, 17:].any()


def test_marked_areas_that_cannot_be_read_are_refused_in_one_line(tmp_path: Path) -> None:
    for content in ("{", '{"a.png": {"points": []}}', "{}"):
        file = tmp_path / "lesions.json"
        file.write_text(content)
        with pytest.raises(XraycamError, match=r"lesions\.json .*") as caught:
            AnnotationMasks(file)
        assert "\n" not in str(caught.value)
    with pytest.raises(XraycamError, match="nowhere cannot be read"):
        load_masks(tmp_path / "nowhere")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"mask .*a\.png"):
        AnnotationMasks(tmp_path / "masks").of("a.png", (10, 10))


def test_masks_are_matched_by_folder_first_and_those_of_two_sides_united(tmp_path: Path) -> None:
    half = Image.new("L", (20, 10))
    half.paste(255, (0, 0, 10, 10))
    for name in (
        "masks/leftMask/a.png",
        "masks/TB/1.png",
        "cxr/TB/1.png",
        "cxr/Normal/1.png",
        "cxr/TB/a.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        half.save(tmp_path / name)
    (tmp_path / "masks/rightMask").mkdir()
    half.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "masks/rightMask/a.png")
    (tmp_path / "masks/a.txt").write_text("a stray note")
    masks = AnnotationMasks(tmp_path / "masks")
    both = masks.of(tmp_path / "cxr/TB/a.png", (20, 10))
    assert both is not None
    assert (np.asarray(both) == 255).all()
    assert masks.has_mask_for(tmp_path / "cxr/TB/1.png")
    assert not masks.has_mask_for(tmp_path / "cxr/Normal/1.png")


@pytest.mark.parametrize("stated", [("width", "height"), ("orig_width", "orig_height")])
def test_outlines_are_scaled_from_the_size_they_were_drawn_at(
    tmp_path: Path, stated: tuple[str, str]
) -> None:
    entry = {"regions": [{"points": [[0, 0], [99, 0], [99, 199], [0, 199]]}], **dict.fromkeys(stated, 200)}
    file = tmp_path / "lesions.json"
    file.write_text(json.dumps({"a.png": entry}))
    area = AnnotationMasks(file).of("a.png", (100, 100))
    assert area is not None
    assert area.getbbox() == (0, 0, 50, 100)
    file.write_text(json.dumps({"a.png": {"regions": entry["regions"]}}))
    with pytest.raises(ImageError, match="beyond 100 x 100 pixels; state the size"):
        AnnotationMasks(file).of("a.png", (100, 100))
