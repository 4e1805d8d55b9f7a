"""Overlays: heatmaps over a radiograph, side by side, written as files, drawn again in other colours."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from worker.errors import ImageError, XraycamError
from worker.explain.names import COLORMAPS
from worker.explain.options import ExplainOptions, OutputFormat
from worker.file_names import printable
from worker.images.limits import Limits
from worker.images.reader import Radiograph, read_radiograph
from worker.model.metadata import Preprocessing
from worker.safe_files import atomic_write_beneath, raise_if_target_unavailable

Table = np.ndarray[Any, np.dtype[np.uint8]]


@cache
def lookup_table(name: str) -> Table:
    """The colours of heat 0..255 as uint8 (256, 3), read-only. Raises XraycamError with the known names."""
    if name not in COLORMAPS:
        raise XraycamError(f"there is no colour map {name!r}; known are {', '.join(COLORMAPS)}")
    ramp = np.arange(256, dtype=np.uint8)
    if name == "blue-red":
        table = np.stack([ramp, np.zeros_like(ramp), 255 - ramp], axis=1)
    elif name == "gray":
        table = np.stack([ramp, ramp, ramp], axis=1)
    else:
        # Stored: importing matplotlib for them takes a third of a second. A test holds the two equal.
        with np.load(Path(__file__).with_name("colormaps.npz")) as tables:
            table = tables[name]
    table.flags.writeable = False
    return table


Heatmap = np.ndarray[Any, Any]
Box = tuple[float, float, float, float]

# Colours are laid on in bands of rows: those of an image of 100 megapixels at once need 400 MB.
_ROWS = 1024


def blend(gray: Image.Image, heatmap: Heatmap, box: Box, table: Table, opacity: float) -> Image.Image:
    """`gray` (mode L) as RGB with `heatmap`, float (h, w) in 0..1, laid over `box` of it (pixels).

    The heatmap is resized bilinearly with half-pixel centres. The share of colour is `opacity` times the
    heat, so that where the heat is 0 (or below 1/510) a pixel is exactly the gray of the radiograph.
    """
    result = gray.convert("RGB")
    if not heatmap.any():
        return result
    left, upper, right, lower = (round(edge) for edge in box)
    levels = Image.fromarray((heatmap.astype(np.float32) * 255 + np.float32(0.5)).astype(np.uint8))
    heat = levels.resize((right - left, lower - upper), Image.Resampling.BILINEAR)
    shares, palette = [round(opacity * level) for level in range(256)], table.tobytes()
    for top in range(0, heat.height, _ROWS):
        band = heat.crop((0, top, heat.width, min(top + _ROWS, heat.height)))
        share = band.point(shares)
        band.putpalette(palette)
        result.paste(band.convert("RGB"), (left, upper + top), share)
    return result


_MONTAGE_GAP = 4
_MONTAGE_INK = (255, 255, 255)


def montage(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """One RGB picture of `panels` (name, picture), all of one size, from left to right.

    A bar above each panel, a twentieth of its width but at least 20 pixels high, holds the name.
    """
    width, height = panels[0][1].size
    bar = max(20, width // 20)
    whole = Image.new("RGB", (len(panels) * (width + _MONTAGE_GAP) - _MONTAGE_GAP, bar + height))
    draw = ImageDraw.Draw(whole)
    for index, (name, picture) in enumerate(panels):
        left = index * (width + _MONTAGE_GAP)
        whole.paste(picture, (left, bar))
        label, font = _fit_size(draw, name, width - 8, bar)
        draw.text((left + width / 2, bar / 2), label, fill=_MONTAGE_INK, font=font, anchor="mm")
    return whole


def _fit_size(
    draw: ImageDraw.ImageDraw, name: str, width: float, bar: int
) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """`name` in the largest size that fits, shortened where even the smallest readable one does not."""
    for size in range(int(bar * 0.7), 9, -1):
        font = ImageFont.load_default(size)
        if draw.textlength(name, font=font) <= width:
            return name, font
    font = ImageFont.load_default(10)
    while len(name) > 1 and draw.textlength(name + "…", font=font) > width:
        name = name[:-1]
    return name + "…", font


SUFFIXES: dict[OutputFormat, str] = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}

# JPEG keeps full brightness resolution and half of colour: heat is smooth, anatomy is gray.
_ENCODINGS: dict[OutputFormat, dict[str, int]] = {
    "jpeg": {"quality": 90, "subsampling": 2},
    "png": {"compress_level": 1},
    "webp": {"quality": 90, "method": 0},
}
_MARGIN, _SHA256 = "preprocessing.margin", "image.sha256"

# Of a strip, the original included: it takes eight bytes a pixel to draw.
STRIP_PIXELS = 150_000_000

Heatmaps = Sequence[tuple[str, Heatmap]]


def render(
    radiograph: Radiograph, heatmaps: Heatmaps, preprocessing: Preprocessing, options: ExplainOptions
) -> Image.Image:
    """The overlay, RGB, of `heatmaps` (layer name, float (h, w) in 0..1) in the radiograph's own size.

    One layer: the radiograph with the heat over it. Several: a strip, the original first, each named. A
    heatmap that is 0 everywhere leaves the plain radiograph. Uses `colormap` and `opacity` of `options`.
    Raises ImageError `too-large` for a strip of more than STRIP_PIXELS.
    """
    width, height = radiograph.width, radiograph.height
    if len(heatmaps) > 1 and (len(heatmaps) + 1) * width * height > STRIP_PIXELS:
        raise ImageError(
            "too-large",
            f"a strip of {len(heatmaps) + 1} pictures of {width} x {height} pixels would have more than "
            f"{STRIP_PIXELS:,}, the limit; choose fewer layers, methods or classes",
        )
    table = lookup_table(options.colormap)
    box = preprocessing.box(radiograph.width, radiograph.height)
    pictures = [
        # Half precision is what `save_heatmaps` keeps: drawing from it makes `recolour` equal to the bit.
        (name, blend(radiograph.pixels, heatmap.astype(np.float16), box, table, options.opacity))
        for name, heatmap in heatmaps
    ]
    if len(pictures) == 1:
        return pictures[0][1]
    return montage([("original", radiograph.pixels.convert("RGB")), *pictures])


def encode(image: Image.Image, output_format: OutputFormat) -> bytes:
    """`image` as a file's content. Raises ImageError where the format cannot hold so large a picture."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, output_format, **_ENCODINGS[output_format])
    except (OSError, ValueError) as error:
        raise ImageError(
            "too-large",
            f"an overlay of {image.width} x {image.height} pixels cannot be written as {output_format} "
            f"({error}); use another format or fewer layers",
        ) from error
    return buffer.getvalue()


def write_atomically(content: bytes, file: Path, root: Path | None = None) -> None:
    """Write `file`, whole or not at all; parent folders are made.

    With `root`, nothing is written that lies outside, nor through a link. Raises ImageError `write-failed`,
    or `outside-root`; with `root`, StorageError if nothing can be written there now.
    """
    try:
        atomic_write_beneath(root or file.parent, file, content)
    except OSError as error:
        if root is not None:
            raise_if_target_unavailable(root, error)
        raise ImageError(
            "write-failed",
            f"{printable(file)} cannot be written: {error.strerror}; check the output folder and retry",
        ) from error


def save_heatmaps(
    file: Path,
    heatmaps: Heatmaps,
    *,
    preprocessing: Preprocessing,
    image_sha256: str,
    root: Path | None = None,
) -> None:
    """Keep `heatmaps` as a NumPy archive (.npz, no pickle): float16 (h, w) in 0..1 by layer name.

    Beside them, what drawing needs: the margin the network did not see and the image's SHA-256.
    `root` as for `write_atomically`, which raises the same.
    """
    buffer = io.BytesIO()
    arrays = {name: heatmap.astype(np.float16) for name, heatmap in heatmaps}
    np.savez(
        buffer,
        allow_pickle=False,
        **arrays,
        **{_MARGIN: np.float64(preprocessing.margin), _SHA256: np.str_(image_sha256)},
    )
    write_atomically(buffer.getvalue(), file, root)


def read_heatmaps(file: Path) -> tuple[dict[str, Heatmap], float, str]:
    """What `save_heatmaps` kept: heatmaps by name, the margin and the image's SHA-256.

    Raises XraycamError for a file that cannot be read.
    """
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        return arrays, float(arrays.pop(_MARGIN)), str(arrays.pop(_SHA256))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise XraycamError(
            f"{printable(file)} is not a file of heatmaps ({error}); run with --heatmaps to make one"
        ) from error


def recolour(
    image: Path, heatmap_file: Path, options: ExplainOptions, limits: Limits | None = None
) -> Image.Image:
    """The overlay of `image` from kept heatmaps, in the colours and opacity of `options`; no model needed.

    Equal to what `render` gave with the same options. Raises ImageError for an image that cannot be read,
    XraycamError for a heatmap file that cannot, or that belongs to another image.
    """
    radiograph = read_radiograph(image, limits or Limits())
    arrays, margin, sha256 = read_heatmaps(heatmap_file)
    if sha256 != radiograph.sha256:
        raise XraycamError(
            f"{printable(heatmap_file)} holds heatmaps of another image than {printable(image)}, "
            "or the image has changed since; run it again"
        )
    return render(radiograph, list(arrays.items()), Preprocessing.model_validate({"margin": margin}), options)
