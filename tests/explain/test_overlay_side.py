"""Overlays are drawn at the size that is asked for, and nothing that is measured depends on it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageChops
from pydantic import ValidationError

from producer.commands.maps import compare_command
from producer.commands.run import enqueue_command, run_command
from producer.viewer.thumbnails import _decoded
from worker.explain.blending import lookup_table, new_canvas, picture_of
from worker.explain.caption import MapFacts, OverlayFacts
from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.explain.overlay import draw, drawn_size, encode, recolour, reduced, render
from worker.explain.pipeline import ImageResult, ImageTask, Pipeline
from worker.images.reader import Radiograph
from worker.map_evaluation.plots import panel_size
from worker.model.metadata import ModelMetadata, Preprocessing

MARGIN = Preprocessing(margin=0.05)
MAPS = [("block_12_add gradcam", np.random.default_rng(2).random((7, 7), np.float32))]
FACTS = OverlayFacts(
    "Tuberculosis", 0.9, "Tuberculosis", "starter-2", (MapFacts("block_12_add gradcam", 0.02, 0.02),)
)


def noise(width: int, height: int) -> Radiograph:
    gray = np.random.default_rng(1).integers(0, 256, (height, width), dtype=np.uint8)
    return Radiograph(Image.fromarray(gray), width, height, "0" * 64)


def laid_on_in_steps(original: Radiograph, heatmap: Any, opacity: float) -> Image.Image:
    """Heat laid on by a palette and a mask, as it was before a table did it in one step."""
    result = original.pixels.convert("RGB")
    left, upper, right, lower = (round(edge) for edge in MARGIN.box(*result.size))
    values = np.minimum(heatmap.astype(np.float16).astype(np.float32), np.float32(1))
    levels = Image.fromarray((values * 255 + np.float32(0.5)).astype(np.uint8))
    heat = levels.resize((right - left, lower - upper), Image.Resampling.BILINEAR)

    def rising(length: int, over: int) -> Any:
        distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + np.float32(0.5)
        return np.minimum(1, distance / np.float32(max(over, 1e-3)))

    rows, columns = rising(heat.height, round(0.4 * upper)), rising(heat.width, round(0.4 * left))
    fading = Image.fromarray(np.rint(255 * rows[:, np.newaxis] * columns).astype(np.uint8))
    share = ImageChops.multiply(heat.point([round(opacity * level) for level in range(256)]), fading)
    heat.putpalette(lookup_table("inferno").tobytes())
    result.paste(heat.convert("RGB"), (left, upper), share)
    return result


@pytest.mark.parametrize("size", [(1400, 1100), (900, 1700), (97, 61)])
@pytest.mark.parametrize("opacity", [0.5, 0.83, 1.0])
def test_overlay_of_full_size_is_to_the_bit_what_palette_and_mask_give(
    size: tuple[int, int], opacity: float
) -> None:
    original = noise(*size)
    options = ExplainOptions(overlay_side="full", caption=False, opacity=opacity)
    drawn = render(original, MAPS, MARGIN, options)
    np.testing.assert_array_equal(
        np.asarray(drawn), np.asarray(laid_on_in_steps(original, MAPS[0][1], opacity))
    )


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((3000, 1500), (1024, 512)), ((1500, 2400), (640, 1024)), ((2048, 2048), (1024, 1024))],
)
def test_by_default_the_radiograph_is_reduced_and_then_drawn_on(
    size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    original = noise(*size)
    assert drawn_size(*size, 1024) == drawn
    small = reduced(original, 1024)
    assert (small.width, small.height) == size, "the image keeps its size"
    assert small.pixels.size == drawn
    alone = Radiograph(small.pixels, *drawn, original.sha256)
    for maps in (MAPS, [*MAPS, ("out_relu gradcam", MAPS[0][1].T)]):
        overlay = render(original, maps, MARGIN, ExplainOptions(), FACTS)
        assert overlay == render(alone, maps, MARGIN, ExplainOptions(overlay_side="full"), FACTS)
        assert overlay == render(small, maps, MARGIN, ExplainOptions(), FACTS)


def test_a_whole_factor_gives_the_mean_of_the_pixels_that_are_covered() -> None:
    original = noise(2048, 1024)
    gray = np.asarray(original.pixels).astype(float)
    means = gray.reshape(512, 2, 1024, 2).mean(axis=(1, 3))
    assert np.abs(np.asarray(reduced(original, 1024).pixels) - means).max() <= 0.5


@pytest.mark.parametrize("size", [(1024, 700), (300, 1024), (512, 512)])
def test_an_image_of_at_most_1024_pixels_is_left_alone(size: tuple[int, int]) -> None:
    original = noise(*size)
    assert reduced(original, 1024) is original
    assert render(original, MAPS, MARGIN, ExplainOptions(caption=False)).size == size


def test_outlines_are_those_of_the_area_at_the_size_drawn() -> None:
    original = Radiograph(Image.new("L", (2000, 1000)), 2000, 1000, "0" * 64)
    area = Image.new("L", (2000, 1000))
    area.paste(255, (400, 200, 1200, 800))
    cold = [(MAPS[0][0], np.zeros((7, 7), np.float32))]
    options = ExplainOptions(overlay_side=500, caption=False, outlines=True)
    drawn = np.asarray(render(original, cold, MARGIN, options, None, area)).any(axis=-1)
    rows, columns = np.nonzero(drawn)
    # The line lies just outside of the area, which ends at (100, 50, 300, 200) in a quarter of the size.
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (99, 49, 300, 200)
    assert not drawn[60:190, 110:290].any()


@pytest.mark.parametrize("side", [63, 0, -1, "1024", "all", True, 100.5])
def test_a_side_that_cannot_be_is_refused(side: object) -> None:
    with pytest.raises(ValidationError):
        ExplainOptions(overlay_side=side)


@pytest.mark.parametrize("command", [run_command, enqueue_command, compare_command])
@pytest.mark.parametrize("side", ["63", "-5", "large", "1024px", ""])
def test_a_side_that_cannot_be_is_refused_in_one_line_by_the_command(command: Any, side: str) -> None:
    found = CliRunner().invoke(command, ["folder", "--overlay-side", side])
    assert found.exit_code == 2
    error = found.output.splitlines()[-1]
    assert error == (
        f"Error: Invalid value for '--overlay-side': {side!r} is neither 'full' nor a number of "
        "pixels from 64 on."
    )


def test_what_is_measured_does_not_depend_on_the_size_drawn(
    tmp_path: Path, image_file: Callable[..., Path], model: tuple[ModelMetadata, Any]
) -> None:
    source = image_file(width=600, height=400)
    area = Image.new("L", (600, 400))
    area.paste(255, (90, 50, 371, 211))
    (tmp_path / "masks").mkdir()
    area.save(tmp_path / "masks" / "image.png")
    explainer = Explainer(*model, ["block_7_project"])
    found: dict[int | str, ImageResult] = {}
    kept: dict[int | str, bytes] = {}
    for side in ("full", 1024, 150):
        overlay = tmp_path / f"{side}" / "image.png"
        options = ExplainOptions(
            overlay_side=side, masks=str(tmp_path / "masks"), output_format="png", heatmaps=True,
            outlines=True, caption=False,
        )  # fmt: skip
        with Pipeline(1, 1, 1) as pipeline:
            (result,) = pipeline.run(explainer, [ImageTask(1, source, overlay, "image.png")], options)
        assert result.error is None
        assert result.heatmap_file is not None
        kept[side] = result.heatmap_file.read_bytes()
        found[side] = ImageResult(**{**vars(result), "task": None, "overlay": None, "heatmap_file": None})
        with Image.open(overlay) as drawn:
            assert drawn.size == ((150, 100) if side == 150 else (600, 400))
    assert found["full"] == found[1024] == found[150]
    assert (found[150].width, found[150].height) == (600, 400)
    assert found[150].heat is not None
    assert found[150].heat.marked is not None
    assert kept["full"] == kept[150]


def test_a_recoloured_overlay_has_the_size_that_its_run_was_asked_for(
    tmp_path: Path, image_file: Callable[..., Path], model: tuple[ModelMetadata, Any]
) -> None:
    source, overlay = image_file(width=600, height=400), tmp_path / "out" / "image.png"
    options = ExplainOptions(overlay_side=200, output_format="png", heatmaps=True, caption=False)
    with Pipeline(1, 1, 1) as pipeline:
        (result,) = pipeline.run(Explainer(*model), [ImageTask(1, source, overlay, "image.png")], options)
    assert result.heatmap_file is not None
    with Image.open(overlay) as drawn:
        again = recolour(source, result.heatmap_file, options)
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(again))
        assert drawn.size == (200, 133)


def row(**others: Any) -> dict[str, Any]:
    return {"width": 600, "height": 400, "layer": "a", "method": "b", "target_class": "c"} | others


@pytest.mark.parametrize(("side", "size"), [(300, (300, 200)), ("full", (600, 400)), (1024, (600, 400))])
def test_the_viewer_cuts_the_caption_off_whatever_the_size_drawn(
    side: int | str, size: tuple[int, int]
) -> None:
    options = ExplainOptions(overlay_side=side)
    overlay = render(noise(600, 400), MAPS, MARGIN, options, FACTS)
    assert overlay.height > size[1]
    shown = _decoded(io.BytesIO(encode(overlay, "png")), row(), side, 2000)
    assert shown == overlay.crop((0, 0, *size))


@pytest.mark.parametrize("output_format", ["jpeg", "png"])
@pytest.mark.parametrize("side", [800, 2000])
def test_each_panel_of_a_strip_has_the_size_that_the_viewer_asks_for(side: int, output_format: str) -> None:
    maps = [*MAPS, ("out_relu gradcam", MAPS[0][1].T)]
    strip = render(noise(2000, 1000), maps, MARGIN, ExplainOptions(overlay_side=side, caption=False))
    shown = _decoded(
        io.BytesIO(encode(strip, output_format)), row(width=2000, height=1000, layer="a,b"), side, 400
    )
    assert 1200 <= shown.width <= 1206, "three panels of 400 and what lies between them"


@pytest.mark.parametrize("output_format", ["jpeg", "png", "webp"])
def test_a_picture_is_encoded_alike_whether_it_has_a_fourth_byte_or_not(output_format: str) -> None:
    options = ExplainOptions(output_format=output_format)
    with_byte = draw(noise(300, 200), MAPS, MARGIN, options, FACTS)
    assert with_byte.mode == "RGBX"
    assert encode(with_byte, output_format, FACTS) == encode(with_byte.convert("RGB"), output_format, FACTS)


def test_memory_of_a_picture_serves_another_only_when_the_picture_is_gone() -> None:
    first = new_canvas((40, 30))
    first.fill(1)
    picture = picture_of(first)
    del first
    others = [new_canvas((40, 30)) for _ in range(20)]
    for other in others:
        other.fill(2)
    assert picture.tobytes() == np.full(40 * 30, 1, np.uint32).tobytes()


@pytest.mark.parametrize(
    ("size", "panel"), [((100, 50), (320, 160)), ((500, 1000), (500, 1000)), ((320, 200), (320, 200))]
)
def test_panels_of_a_comparison_have_their_picture_s_size_and_room_for_names(
    size: tuple[int, int], panel: tuple[int, int]
) -> None:
    assert panel_size(size) == panel
