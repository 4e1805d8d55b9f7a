"""An overlay shows the heat where it is, and nothing but the X-ray where there is none."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.support.made_dicom import dicom, picture
from worker.errors import ImageError, XraycamError
from worker.explain.blending import lookup_table
from worker.explain.names import COLORMAPS
from worker.explain.options import ExplainOptions
from worker.explain.overlay import (
    _distinct,
    encode,
    montage_columns,
    recolour,
    render,
    save_heatmaps,
    write_atomically,
)
from worker.images.limits import Limits
from worker.images.reader import Radiograph, read_radiograph
from worker.model.metadata import Preprocessing

WHOLE = Preprocessing()
BLUE_RED = ExplainOptions(colormap="blue-red", opacity=0.5)


def radiograph(width: int = 140, height: int = 70) -> Radiograph:
    gray = np.random.default_rng(1).integers(0, 256, (height, width), dtype=np.uint8)
    return Radiograph(Image.fromarray(gray), width, height, "0" * 64)


def hot_cell(row: int, column: int, shape: tuple[int, int] = (7, 7)) -> np.ndarray:
    heatmap = np.zeros(shape, np.float32)
    heatmap[row, column] = 1
    return heatmap


def test_cold_pixels_are_exactly_those_of_the_radiograph() -> None:
    original = radiograph()
    overlay = np.asarray(render(original, [("layer", hot_cell(0, 0))], WHOLE, ExplainOptions()))
    gray = np.asarray(original.pixels.convert("RGB"))
    # The hot cell is 20 x 10 pixels; its heat ends half a cell further on.
    np.testing.assert_array_equal(overlay[15:], gray[15:])
    np.testing.assert_array_equal(overlay[:, 30:], gray[:, 30:])
    assert (overlay[:5, :10] != gray[:5, :10]).any(axis=-1).mean() > 0.95


def test_hot_pixels_are_the_radiograph_mixed_with_the_colour() -> None:
    original = radiograph()
    hot = np.asarray(render(original, [("layer", np.ones((7, 7), np.float32))], WHOLE, BLUE_RED)).astype(int)
    gray = np.asarray(original.pixels).astype(int)
    # Heat 1 is red (255, 0, 0); its share is 0.5 of 255, rounded to 128.
    np.testing.assert_allclose(hot[..., 0], (gray * 127 + 255 * 128) / 255, atol=0.51)
    np.testing.assert_allclose(hot[..., 1], gray * 127 / 255, atol=0.51)
    np.testing.assert_allclose(hot[..., 2], gray * 127 / 255, atol=0.51)


def test_half_the_heat_gives_half_the_share_of_its_own_colour() -> None:
    original = radiograph()
    heatmap = np.full((7, 7), 0.5, np.float32)
    warm = np.asarray(render(original, [("layer", heatmap)], WHOLE, BLUE_RED)).astype(int)
    gray = np.asarray(original.pixels).astype(int)
    # Level 128 of 255: colour (128, 0, 127), share 64 of 255.
    np.testing.assert_allclose(warm[..., 0], (gray * 191 + 128 * 64) / 255, atol=0.51)
    np.testing.assert_allclose(warm[..., 2], (gray * 191 + 127 * 64) / 255, atol=0.51)


@pytest.mark.parametrize("opacity", [0.0, 1.0])
def test_opacity_runs_from_nothing_to_the_pure_colour(opacity: float) -> None:
    original = radiograph()
    options = ExplainOptions(colormap="blue-red", opacity=opacity)
    overlay = np.asarray(render(original, [("layer", np.ones((7, 7), np.float32))], WHOLE, options))
    expected = original.pixels.convert("RGB") if opacity == 0 else Image.new("RGB", (140, 70), (255, 0, 0))
    np.testing.assert_array_equal(overlay, np.asarray(expected))


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 6), (6, 0), (6, 6), (2, 5)])
def test_heat_is_drawn_at_its_place_in_an_image_that_is_not_square(row: int, column: int) -> None:
    black = Radiograph(Image.new("L", (210, 140)), 210, 140, "0" * 64)
    overlay = render(black, [("layer", hot_cell(row, column))], WHOLE, BLUE_RED)
    assert overlay.size == (210, 140)
    red = np.asarray(overlay)[..., 0].astype(float)
    rows, columns = np.nonzero(red == red.max())
    assert row * 20 <= rows.mean() < (row + 1) * 20
    assert column * 30 <= columns.mean() < (column + 1) * 30


def test_heat_is_interpolated_between_the_centres_of_cells() -> None:
    black = Radiograph(Image.new("L", (40, 40)), 40, 40, "0" * 64)
    gray = ExplainOptions(colormap="gray", opacity=1.0)
    heatmap = np.array([[0, 1], [0, 1]], np.float32)
    heat = np.sqrt(np.asarray(render(black, [("layer", heatmap)], WHOLE, gray))[20, :, 0] / 255)
    # Centres of the cells at 10 and 30; a pixel's own centre is half a pixel further.
    expected = np.clip((np.arange(40) + 0.5 - 10) / 20, 0, 1)
    np.testing.assert_allclose(heat, expected, atol=0.05)


def test_heat_lies_only_where_the_network_looked() -> None:
    original = radiograph(200, 100)
    overlay = np.asarray(
        render(original, [("layer", np.ones((7, 7), np.float32))], Preprocessing(margin=0.1), BLUE_RED)
    )
    gray = np.asarray(original.pixels.convert("RGB"))
    changed = (overlay != gray).any(axis=-1)
    inside = np.zeros((100, 200), bool)
    inside[10:90, 20:180] = True
    assert not changed[~inside].any()
    assert changed[inside].mean() > 0.99


def test_blank_map_is_the_plain_radiograph() -> None:
    original = radiograph()
    overlay = render(original, [("layer", np.zeros((7, 7), np.float32))], WHOLE, ExplainOptions())
    np.testing.assert_array_equal(np.asarray(overlay), np.asarray(original.pixels.convert("RGB")))


def test_several_layers_give_a_strip_with_the_original_first() -> None:
    original = radiograph()
    heatmaps = [("block_7_project", hot_cell(0, 0)), ("out_relu", hot_cell(3, 3))]
    montage = np.asarray(render(original, heatmaps, WHOLE, ExplainOptions()))
    bar, gap = 20, 4
    assert montage.shape == (70 + bar, 3 * 140 + 2 * gap, 3)
    for index, panel in enumerate(
        [
            original.pixels.convert("RGB"),
            *(render(original, [one], WHOLE, ExplainOptions()) for one in heatmaps),
        ]
    ):
        left = index * (140 + gap)
        np.testing.assert_array_equal(montage[bar:, left : left + 140], np.asarray(panel))
        assert montage[:bar, left : left + 140].max() == 255, "a name is written above each panel"


def test_many_maps_stand_in_rows_under_each_other() -> None:
    original = radiograph()
    heatmaps = [(f"out_relu Finding-{n}", hot_cell(n % 4, n // 4)) for n in range(11)]
    montage = np.asarray(render(original, heatmaps, WHOLE, ExplainOptions()))
    bar, gap = 20, 4
    assert montage.shape == (3 * (70 + bar) + 2 * gap, 4 * 140 + 3 * gap, 3)
    # The original and three maps in the first row: the sixth map is third in the second.
    top, left = bar + 70 + gap, 2 * (140 + gap)
    sixth = np.asarray(render(original, heatmaps[5:6], WHOLE, ExplainOptions()))
    np.testing.assert_array_equal(montage[top + bar : top + bar + 70, left : left + 140], sixth)
    assert montage[top : top + bar, left : left + 140].max() == 255, "its name is above it"
    assert [montage_columns(count) for count in (2, 4, 5, 6, 7, 8, 9, 12)] == [2, 4, 3, 3, 4, 4, 3, 4]


def test_name_too_long_for_its_panel_is_shortened_and_stays_inside() -> None:
    original = radiograph(60, 60)
    heatmaps = [("a_layer_with_a_very_long_name_indeed", hot_cell(0, 0)), ("b", hot_cell(1, 1))]
    montage = np.asarray(render(original, heatmaps, WHOLE, ExplainOptions()))
    assert not montage[:, 60:64].any()
    assert not montage[:, 124:128].any()


@pytest.mark.parametrize("name", COLORMAPS)
def test_colour_maps_are_tables_of_256_colours(name: str) -> None:
    table = lookup_table(name)
    assert table.shape == (256, 3)
    assert table.dtype == np.uint8
    assert len(np.unique(table, axis=0)) > 200


@pytest.mark.parametrize("name", [name for name in COLORMAPS if name not in ("gray", "blue-red")])
def test_stored_colour_maps_are_those_of_matplotlib(name: str) -> None:
    expected = mpl.colormaps[name](np.arange(256, dtype=np.uint8), bytes=True)[:, :3]
    assert (lookup_table(name) == expected).all()


def test_blue_red_runs_linearly_from_blue_to_red() -> None:
    table = lookup_table("blue-red")
    assert table[0].tolist() == [0, 0, 255]
    assert table[100].tolist() == [100, 0, 155]
    assert table[255].tolist() == [255, 0, 0]


def test_unknown_colour_map_is_refused_with_the_known_names() -> None:
    with pytest.raises(XraycamError, match=r"no colour map 'jet'; known are inferno, .*blue-red"):
        lookup_table("jet")


@pytest.mark.parametrize("output_format", ["jpeg", "png", "webp"])
def test_encoded_overlay_is_what_was_drawn(output_format: str) -> None:
    options = ExplainOptions(output_format=output_format)
    original = Radiograph(Image.linear_gradient("L"), 256, 256, "0" * 64)
    overlay = render(original, [("layer", hot_cell(3, 3))], WHOLE, options)
    decoded = Image.open(io.BytesIO(encode(overlay, options.output_format)))
    assert decoded.format == output_format.upper()
    difference = np.abs(np.asarray(decoded).astype(int) - np.asarray(overlay))
    assert difference.mean() < (0.01 if output_format == "png" else 3)


def test_picture_too_large_for_its_format_is_an_image_error() -> None:
    with pytest.raises(ImageError, match="20000 x 16 pixels cannot be written as webp") as caught:
        encode(Image.new("RGB", (20_000, 16)), "webp")
    assert caught.value.reason == "too-large"


def test_writing_makes_folders_and_leaves_only_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "overlay.jpg"
    write_atomically(b"first", file)
    write_atomically(b"second", file)
    assert file.read_bytes() == b"second"
    assert list(file.parent.iterdir()) == [file]


def test_failed_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    target = tmp_path / "overlay.jpg"
    target.mkdir()
    with pytest.raises(
        ImageError, match=r"overlay\.jpg cannot be written: .*check the output folder"
    ) as caught:
        write_atomically(b"content", target)
    assert caught.value.reason == "write-failed"
    assert list(tmp_path.iterdir()) == [target]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match="cannot be written"):
        write_atomically(b"content", tmp_path / "file" / "overlay.jpg")


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_recolouring_equals_drawing_anew(
    tmp_path: Path, image_file: Callable[..., Path], margin: float
) -> None:
    original = read_radiograph(image_file(), Limits())
    random = np.random.default_rng(5)
    heatmaps = [(name, random.random((7, 7), np.float32)) for name in ("block_7_project", "out_relu")]
    preprocessing = Preprocessing(margin=margin)
    kept = tmp_path / "kept.npz"
    save_heatmaps(kept, heatmaps, preprocessing=preprocessing, image_sha256=original.sha256)
    for options in (ExplainOptions(), ExplainOptions(colormap="turbo", opacity=0.8)):
        again = recolour(image_file(), kept, options)
        np.testing.assert_array_equal(
            np.asarray(again), np.asarray(render(original, heatmaps, preprocessing, options))
        )


def test_what_was_let_in_is_recoloured_too(tmp_path: Path) -> None:
    file, kept = tmp_path / "lateral.dcm", tmp_path / "kept.npz"
    file.write_bytes(dicom(picture(), BitsStored=12, ViewPosition="LL"))
    options = ExplainOptions(accept=("lateral",))
    original = read_radiograph(file, Limits(), accept=frozenset(options.accept))
    heatmaps = [("layer", hot_cell(2, 2))]
    save_heatmaps(kept, heatmaps, preprocessing=WHOLE, image_sha256=original.sha256)
    again = np.asarray(recolour(file, kept, options))
    np.testing.assert_array_equal(again, np.asarray(render(original, heatmaps, WHOLE, options)))


def test_kept_heatmaps_are_small_plain_arrays_by_layer(tmp_path: Path) -> None:
    kept = tmp_path / "kept.npz"
    heatmap = np.random.default_rng(5).random((14, 14), np.float32)
    save_heatmaps(kept, [("block_12_add", heatmap)], preprocessing=WHOLE, image_sha256="1" * 64)
    with np.load(kept, allow_pickle=False) as archive:
        assert archive["block_12_add"].dtype == np.float16
        np.testing.assert_allclose(archive["block_12_add"], heatmap, atol=5e-4)
    assert kept.stat().st_size < 2500
    content = kept.read_bytes()
    save_heatmaps(kept, [("block_12_add", heatmap)], preprocessing=WHOLE, image_sha256="1" * 64)
    assert kept.read_bytes() == content


def test_heatmaps_of_another_image_are_not_drawn(tmp_path: Path, image_file: Callable[..., Path]) -> None:
    kept = tmp_path / "kept.npz"
    save_heatmaps(kept, [("layer", hot_cell(0, 0))], preprocessing=WHOLE, image_sha256="1" * 64)
    with pytest.raises(XraycamError, match="holds heatmaps of another image"):
        recolour(image_file(), kept, ExplainOptions())


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut off"])
def test_file_that_holds_no_heatmaps_is_refused(
    tmp_path: Path, image_file: Callable[..., Path], content: bytes
) -> None:
    broken = tmp_path / "broken.npz"
    broken.write_bytes(content)
    with pytest.raises(XraycamError, match=r"broken\.npz is not a file of heatmaps"):
        recolour(image_file(), broken, ExplainOptions())


def test_names_that_do_not_fit_lose_the_words_that_all_maps_share() -> None:
    draw = ImageDraw.Draw(Image.new("RGB", (10, 10)))
    names = ["original", "block_7_add gradcam Disc", "block_7_add gradcam Bar on the left"]
    assert _distinct(names, draw, 1000, 20) == names
    assert _distinct(names, draw, 100, 20) == ["original", "Disc", "Bar on the left"]
    layers = ["original", "block_7_add gradcam", "out_relu gradcam"]
    assert _distinct(layers, draw, 20, 20) == layers
