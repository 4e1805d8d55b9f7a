"""A caption tells what an overlay shows, legibly at every size, and weak evidence looks weak."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageFont

from worker.explain.blending import lookup_table
from worker.explain.caption import (
    LEAST_WIDTH,
    NOT_FOR_DIAGNOSIS,
    OverlayFacts,
    _placed,
    _word,
    band,
    map_facts,
)
from worker.explain.options import ExplainOptions
from worker.explain.overlay import encode, render
from worker.images.reader import Radiograph
from worker.model.metadata import Preprocessing

LABEL = "block_12_add gradcam"
WHOLE = Preprocessing()
GRAY = ExplainOptions(colormap="gray", opacity=1.0, caption=False)


def facts(maximum: float = 0.02, scale: str = "version", **more: object) -> OverlayFacts:
    maps = map_facts([LABEL], {"block_12_add": maximum}, {LABEL: 0.02})
    given = {"predicted": "Tuberculosis", "probability": 0.973, "target": "Tuberculosis"}
    return OverlayFacts(**given, model_version="starter-1", maps=maps, scale=scale, **more)


def black(width: int, height: int) -> Radiograph:
    return Radiograph(Image.new("L", (width, height)), width, height, "0" * 64)


def hottest(maximum: float, scale: str) -> int:
    heat = [(LABEL, np.ones((7, 7), np.float32))]
    return int(np.asarray(render(black(70, 70), heat, WHOLE, GRAY, facts(maximum, scale))).max())


def test_heat_of_half_the_versions_scale_has_half_its_colour() -> None:
    # Colour gray, share of colour equal to the heat: what is seen over black is the heat squared.
    assert hottest(0.02, "version") == 255
    assert hottest(0.01, "version") == pytest.approx(255 * 0.25, abs=1)
    assert hottest(0.005, "version") == pytest.approx(255 * 0.0625, abs=1)


def test_heat_beyond_the_versions_scale_has_the_last_colour() -> None:
    assert hottest(0.08, "version") == 255


def test_with_each_images_own_scale_weak_heat_looks_as_strong_as_any() -> None:
    assert hottest(0.0001, "image") == 255


def test_version_without_a_scale_falls_back_to_the_images_own_and_says_so() -> None:
    maps = map_facts([LABEL], {"block_12_add": 0.001}, {})
    told = OverlayFacts("Normal", 0.6, "Normal", "old-1", maps)
    assert told.strengths() == {LABEL: 1.0}
    assert "scale: each image's own (the model version has none)" in told.text()
    assert "colours end at this image's own maximum, 0.001" in told.text()


def test_caption_of_a_score_just_below_its_threshold_does_not_contradict_its_decision() -> None:
    text = facts(score=27.97, threshold=28.0, decision="do-not-refer", positive_class="Tuberculosis").text()
    assert "score of Tuberculosis: 27.97 of 100" in text
    assert "decision: do-not-refer (threshold 28.00)" in text


def test_caption_tells_class_score_decision_oddness_map_and_purpose() -> None:
    text = facts(
        score=96.24, threshold=50.0, decision="refer", odd="inverted,rotated", positive_class="Tuberculosis"
    ).text()
    for part in (
        "Tuberculosis: probability 0.973",
        "score of Tuberculosis: 96.2 of 100",
        "decision: refer (threshold 50.0)",
        "odd: inverted, rotated",
        "map of Tuberculosis: block_12_add gradcam",
        "model starter-1",
        "hottest: 0.02, 100% of the scale",
        "scale: of the model version",
        NOT_FOR_DIAGNOSIS,
    ):
        assert part in text


@pytest.mark.parametrize("size", [(64, 64), (100, 2000), (512, 512), (3000, 700), (2000, 6000)])
def test_picture_is_unchanged_above_its_caption(size: tuple[int, int]) -> None:
    random = np.random.default_rng(1).integers(0, 256, size[::-1], dtype=np.uint8)
    original = Radiograph(Image.fromarray(random), *size, "0" * 64)
    heat = [(LABEL, np.eye(7, dtype=np.float32))]
    plain = render(original, heat, WHOLE, ExplainOptions(caption=False, overlay_side="full"), facts())
    assert plain.size == size
    captioned = render(original, heat, WHOLE, ExplainOptions(overlay_side="full"), facts())
    left = (captioned.width - size[0]) // 2
    assert captioned.width == max(size[0], LEAST_WIDTH)
    assert captioned.height > size[1]
    shown = captioned.crop((left, 0, left + size[0], size[1]))
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(plain))


@pytest.mark.parametrize("width", [64, 200, 333, 512, 1500])
@pytest.mark.parametrize("letters", [11, 14, 36])
def test_no_word_of_a_caption_is_cut_or_lies_over_another(width: int, letters: int) -> None:
    lines = [*facts(score=1.0, odd="inverted,rotated").verdict(), *facts().origin()]
    words = [word for line in lines for word in line.split(" ")]
    room = max(width, *(_word(word, letters)[1] for word in words))
    places, rows = _placed(lines, room, letters)
    assert [word for word, _, _ in places] == words
    assert {row for _, _, row in places} == set(range(rows))
    ends = dict.fromkeys(range(rows), 0)
    for word, left, row in places:
        across = ImageFont.load_default(letters).getlength(word)
        assert left >= ends[row]
        ends[row] = left + across
        assert ends[row] <= room


def test_picture_becomes_wider_rather_than_cut_a_long_class_name() -> None:
    told = OverlayFacts("A" * 60, 0.5, "A" * 60, "v", map_facts([LABEL], {}, {}))
    whole = band(told, (64, 64), lookup_table("inferno"))
    assert whole.width >= ImageFont.load_default(11).getlength("A" * 60)


def test_letters_grow_with_the_picture() -> None:
    table = lookup_table("inferno")
    heights = [band(facts(), (side, side), table).height for side in (512, 1024, 2048)]
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.1)
    assert heights[2] == pytest.approx(4 * heights[0], rel=0.1)


def test_colour_bar_shows_every_colour_from_cold_to_hot() -> None:
    whole = np.asarray(band(facts(), (512, 512), lookup_table("viridis")))
    table = lookup_table("viridis").astype(int)
    rows = [
        row
        for row in whole[:, 6:-6].astype(int)
        if abs(row[0] - table[0]).max() < 3 and abs(row[-1] - table[-1]).max() < 3
    ]
    assert len(rows) >= 10


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_file_holds_the_same_facts_as_its_caption(output_format: str) -> None:
    told = facts(score=96.2, positive_class="Tuberculosis")
    options = ExplainOptions(output_format=output_format)
    picture = render(black(128, 128), [(LABEL, np.ones((7, 7), np.float32))], WHOLE, options, told)
    opened = Image.open(io.BytesIO(encode(picture, options.output_format, told)))
    if output_format == "png":
        caption, whole = opened.info["Description"], opened.info["xraycam"]
    else:
        exif = opened.getexif()
        caption, whole = exif[0x010E], exif.get_ifd(0x8769)[0x9286][8:].decode()
    assert caption == told.text()
    found = json.loads(whole)
    assert found["score"] == 96.2
    assert found["maps"] == [{"label": LABEL, "maximum": 0.02, "scale": 0.02}]


def test_facts_of_a_thousand_maps_do_not_burst_a_jpeg() -> None:
    labels = [f"block_12_add gradcam class number {n} {'x' * 100}" for n in range(1000)]
    told = OverlayFacts("a", 0.5, "every class", "v", map_facts(labels, {}, {}))
    opened = Image.open(io.BytesIO(encode(Image.new("RGB", (64, 64)), "jpeg", told)))
    assert "not for diagnosis" in opened.getexif()[0x010E]


def test_outline_surrounds_the_marked_area_and_leaves_its_inside() -> None:
    area = Image.new("L", (100, 100))
    area.paste(255, (30, 40, 60, 70))
    picture = render(black(100, 100), [(LABEL, np.zeros((7, 7)))], WHOLE, GRAY, facts(), area)
    coloured = np.asarray(picture).any(axis=-1)
    assert coloured[39, 29:61].all()
    assert coloured[39:71, 29].all()
    assert coloured[70, 29:61].all()
    assert not coloured[41:69, 31:59].any()
    assert coloured.sum() == 32 * 32 - 30 * 30


def test_heat_fades_towards_the_margin_that_the_network_did_not_see() -> None:
    heat = [(LABEL, np.ones((7, 7), np.float32))]
    seen = np.asarray(render(black(400, 400), heat, Preprocessing(margin=0.05), GRAY))[200, :, 0].astype(int)
    # 20 pixels are not seen, over the next 8 the colour comes in, then it is whole.
    assert not seen[:20].any()
    assert (np.diff(seen[20:28]) > 0).all()
    assert (seen[28:200] == 255).all()
    assert (seen == seen[::-1]).all()


def test_findings_are_each_told_and_none_is_said() -> None:
    maps = map_facts([LABEL], {}, {})
    several = OverlayFacts("A", 0.9, "A", "v", maps, findings=(("A", 0.9), ("B", 0.5), ("C", 0.2)))
    assert several.verdict()[:2] == ["A: probability 0.900", "B: probability 0.500"]
    assert not any(line.startswith("C") for line in several.verdict())
    none = OverlayFacts("no finding", None, "A", "v", maps, findings=(("A", 0.31), ("B", 0.1)))
    assert none.verdict()[0] == "no finding at 0.5 or more; the highest, A: 0.310"
    positive = OverlayFacts(
        "A", 0.9, "A", "v", maps, positive_class="B", positive_probability=0.1,
        findings=(("A", 0.9), ("B", 0.1)),
    )  # fmt: skip
    assert "B: probability 0.100" in positive.verdict()


def test_what_all_maps_share_is_said_once() -> None:
    labels = ["out_relu gradcam Cavity", "out_relu gradcam Single Nodule"]
    told = OverlayFacts("Cavity", 0.9, "every class", "v", map_facts(labels, {}, {}))
    assert told.origin()[0] == "map of every class: 2 maps, out_relu gradcam"
    assert "blank: Cavity, Single Nodule" in told.verdict()
