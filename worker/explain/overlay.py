"""Overlays: heatmaps over a radiograph, side by side, written as files, drawn again in other colours."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont
from PIL.PngImagePlugin import PngInfo

from worker.errors import ImageError, XraycamError
from worker.explain.caption import OverlayFacts, band
from worker.explain.names import COLORMAPS
from worker.explain.options import ExplainOptions, OutputFormat
from worker.file_names import printable
from worker.images.limits import Limits
from worker.images.masks import AnnotationMasks
from worker.images.reader import Radiograph, read_radiograph
from worker.model.metadata import Preprocessing
from worker.remote.folder import RemotePath
from worker.safe_files import atomic_write_beneath, raise_if_target_unavailable

_LARGEST_FILE = 500_000_000  # of heatmaps

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


# Over so much of the margin's width the heat fades inside the edge of what the network saw.
_FADE = 0.4


def blend(
    gray: Image.Image, heatmap: Heatmap, box: Box, table: Table, opacity: float, strength: float = 1.0
) -> Image.Image:
    """`gray` (mode L) as RGB with `heatmap`, float (h, w) in 0..1, laid over `box` of it (pixels).

    The heatmap, multiplied by `strength` and cut off at 1, is resized bilinearly with half-pixel centres.
    The share of colour is `opacity` times the heat, so that where the heat is 0 (or below 1/510) a pixel is
    exactly the gray of the radiograph. Where `box` leaves a margin, the colour fades towards it.
    """
    result = gray.convert("RGB")
    _lay(result, 0, heatmap, box, table, opacity, strength)
    return result


def _lay(
    result: Image.Image,
    across: int,
    heatmap: Heatmap,
    box: Box,
    table: Table,
    opacity: float,
    strength: float,
) -> None:
    """Lay the heat over the picture that begins `across` pixels from the left of `result`, RGB."""
    if not heatmap.any() or strength <= 0:
        return
    left, upper, right, lower = (round(edge) for edge in box)
    heat_values = np.minimum(heatmap.astype(np.float32) * np.float32(strength), np.float32(1))
    levels = Image.fromarray((heat_values * 255 + np.float32(0.5)).astype(np.uint8))
    heat = levels.resize((right - left, lower - upper), Image.Resampling.BILINEAR)
    shares, palette = [round(opacity * level) for level in range(256)], table.tobytes()
    for top in range(0, heat.height, _ROWS):
        band = heat.crop((0, top, heat.width, min(top + _ROWS, heat.height)))
        share = band.point(shares)
        share = _faded(share, top, heat.height, round(_FADE * left), round(_FADE * upper))
        band.putpalette(palette)
        result.paste(band.convert("RGB"), (across + left, upper + top), share)


def _faded(share: Image.Image, top: int, height: int, across: int, down: int) -> Image.Image:
    """`share` (mode L), rows from `top` of a picture of `height`, lower towards that picture's edges."""
    if not across and not down:
        return share
    make = _fading if share.width * share.height <= _KEPT_PIXELS else _fading.__wrapped__
    return ImageChops.multiply(share, make(share.size, top, height, across, down))


_KEPT_PIXELS = 1_500_000


@lru_cache(maxsize=16)
def _fading(size: tuple[int, int], top: int, height: int, across: int, down: int) -> Image.Image:
    """255 but for `across` columns and `down` rows at the edges, where it rises from 0 linearly."""

    def rising(length: int, over: int) -> np.ndarray[Any, Any]:
        distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + np.float32(0.5)
        weights: np.ndarray[Any, Any] = np.minimum(1, distance / np.float32(max(over, 1e-3)))
        return weights

    rows = rising(height, down)[top : top + size[1]]
    return Image.fromarray(np.rint(255 * rows[:, np.newaxis] * rising(size[0], across)).astype(np.uint8))


# Of marked areas; the reduced size in which their edges are found, so that a line is one in so many pixels.
_OUTLINE_INK, _OUTLINE_SIDE = (0, 230, 255), 700


def _draw_outlines(result: Image.Image, left: int, area: Image.Image) -> None:
    """Draw the edge of `area` (mode L, 0 or 255) on the picture of its size that begins at `left`."""
    step = max(1, max(area.size) // _OUTLINE_SIDE)
    small = area.reduce(step) if step > 1 else area
    small = small.point([255 * (level > 127) for level in range(256)])
    edge = ImageChops.subtract(small.filter(ImageFilter.MaxFilter(3)), small)
    result.paste(_OUTLINE_INK, (left, 0, left + area.width, area.height), edge.resize(area.size))


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
    names = _distinct([name for name, _ in panels], draw, width - 8)
    for index, (name, (_, picture)) in enumerate(zip(names, panels, strict=True)):
        left = index * (width + _MONTAGE_GAP)
        whole.paste(picture, (left, bar))
        label, font = _fit_size(draw, name, width - 8, bar)
        draw.text((left + width / 2, bar / 2), label, fill=_MONTAGE_INK, font=font, anchor="mm")
    return whole


def _distinct(names: list[str], draw: ImageDraw.ImageDraw, width: float) -> list[str]:
    """`names`, without the first words that all maps share where they do not fit: the rest tells them apart.

    The first name is that of the original where it is one word.
    """
    font = ImageFont.load_default(10)
    maps = [name for name in names if " " in name]
    while len(maps) > 1 and max(draw.textlength(name, font=font) for name in maps) > width:
        if len({name.split(" ", 1)[0] for name in maps}) > 1 or not all(" " in name for name in maps):
            break
        maps = [name.split(" ", 1)[1] for name in maps]
    rest = iter(maps)
    return [next(rest) if " " in name else name for name in names]


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
    radiograph: Radiograph,
    heatmaps: Heatmaps,
    preprocessing: Preprocessing,
    options: ExplainOptions,
    facts: OverlayFacts | None = None,
    area: Image.Image | None = None,
) -> Image.Image:
    """The overlay, RGB, of `heatmaps` (layer name, float (h, w) in 0..1), with its caption below.

    One layer: the radiograph with the heat over it. Several: a strip, the original first, each named. A
    heatmap that is 0 everywhere leaves the plain radiograph. Uses `colormap`, `opacity` and `caption` of
    `options`. Without `facts` there is no caption and each map has its own scale; without a caption the
    picture has the radiograph's own size. `area` (mode L, 0 or 255, of the radiograph's size) is outlined.
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
    box = preprocessing.box(width, height)
    strengths = {} if facts is None else facts.strengths()
    # Half precision is what `save_heatmaps` keeps: drawing from it makes `recolour` equal to the bit.
    halved = [(name, heatmap.astype(np.float16)) for name, heatmap in heatmaps]
    if len(halved) == 1:
        strip = None
        size = (width, height)
    else:
        drawn = [
            (name, blend(radiograph.pixels, heatmap, box, table, options.opacity, strengths.get(name, 1.0)))
            for name, heatmap in halved
        ]
        if area is not None:
            for _, picture in drawn:
                _draw_outlines(picture, 0, area)
        strip = montage([("original", radiograph.pixels.convert("RGB")), *drawn])
        size = strip.size
    caption = band(facts, size, table) if facts is not None and options.caption else None
    if strip is not None and caption is None:
        return strip
    # Drawn where it stays: a copy of an image of 100 megapixels takes 300 MB.
    canvas_size = size if caption is None else (caption.width, size[1] + caption.height)
    result = Image.new("RGB", canvas_size)
    left = (result.width - size[0]) // 2
    if caption is not None:
        result.paste(caption, (0, size[1]))
    if strip is not None:
        result.paste(strip, (left, 0))
        return result
    result.paste(radiograph.pixels, (left, 0))
    for name, heatmap in halved:
        _lay(result, left, heatmap, box, table, options.opacity, strengths.get(name, 1.0))
    if area is not None:
        _draw_outlines(result, left, area)
    return result


def encode(image: Image.Image, output_format: OutputFormat, facts: OverlayFacts | None = None) -> bytes:
    """`image` as a file's content. Raises ImageError where the format cannot hold so large a picture.

    `facts` go into PNG's text (Description, xraycam) or into EXIF (ImageDescription, UserComment): the
    caption as a line, and all of them as JSON.
    """
    buffer = io.BytesIO()
    told = {} if facts is None else _file_metadata(output_format, facts)
    try:
        image.save(buffer, output_format, **_ENCODINGS[output_format], **told)
    except (OSError, ValueError) as error:
        raise ImageError(
            "too-large",
            f"an overlay of {image.width} x {image.height} pixels cannot be written as {output_format} "
            f"({error}); use another format or fewer layers",
        ) from error
    return buffer.getvalue()


# EXIF tags, and the most that one segment of a JPEG file holds of them beside what frames it.
_DESCRIPTION, _SOFTWARE, _EXIF_IFD, _USER_COMMENT = 0x010E, 0x0131, 0x8769, 0x9286
_EXIF_BYTES = 60_000


def _file_metadata(output_format: OutputFormat, facts: OverlayFacts) -> dict[str, Any]:
    text, whole = facts.text(), facts.as_json()
    if output_format == "png":
        info = PngInfo()
        info.add_itxt("Description", text)
        info.add_itxt("xraycam", whole)
        return {"pnginfo": info}
    if len(text) + len(whole) > _EXIF_BYTES:
        facts = replace(facts, maps=facts.maps[:1])
        text, whole = facts.text(), facts.as_json()
    exif = Image.Exif()
    exif[_DESCRIPTION] = text
    exif[_SOFTWARE] = "xraycam"
    exif[_EXIF_IFD] = {_USER_COMMENT: b"ASCII\0\0\0" + whole.encode("ascii")}
    return {"exif": exif}


def write_atomically(content: bytes, file: Path | RemotePath, root: Path | None = None) -> None:
    """Write `file`, whole or not at all; parent folders are made.

    With `root`, nothing is written that lies outside, nor through a link. Raises ImageError `write-failed`,
    or `outside-root`; with `root`, StorageError if nothing can be written there now.
    """
    if isinstance(file, RemotePath):
        file.write(content)
        return
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
    content = heatmap_content(heatmaps, preprocessing=preprocessing, image_sha256=image_sha256)
    write_atomically(content, file, root)


def heatmap_content(heatmaps: Heatmaps, *, preprocessing: Preprocessing, image_sha256: str) -> bytes:
    """The content of the file that `save_heatmaps` writes."""
    buffer = io.BytesIO()
    arrays = {name: heatmap.astype(np.float16) for name, heatmap in heatmaps}
    np.savez(
        buffer,
        allow_pickle=False,
        **arrays,
        **{_MARGIN: np.float64(preprocessing.margin), _SHA256: np.str_(image_sha256)},
    )
    return buffer.getvalue()


def read_heatmaps(file: Path | RemotePath) -> tuple[dict[str, Heatmap], float, str]:
    """What `save_heatmaps` kept: heatmaps by name, the margin and the image's SHA-256.

    Raises XraycamError for a file that cannot be read.
    """
    try:
        stored = io.BytesIO(file.read(_LARGEST_FILE)) if isinstance(file, RemotePath) else file
        with np.load(stored, allow_pickle=False) as archive:
            arrays = dict(archive)
        return arrays, float(arrays.pop(_MARGIN)), str(arrays.pop(_SHA256))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise XraycamError(
            f"{printable(file)} is not a file of heatmaps ({error}); run with --heatmaps to make one"
        ) from error


def recolour(
    image: Path | RemotePath,
    heatmap_file: Path | RemotePath,
    options: ExplainOptions,
    limits: Limits | None = None,
    describe: Callable[[Sequence[str]], OverlayFacts] | None = None,
    marked: AnnotationMasks | None = None,
) -> Image.Image:
    """The overlay of `image` from kept heatmaps, in the colours and opacity of `options`; no model needed.

    Equal to what `render` gave with the same options and the facts that `describe` makes for the names of
    the maps; `marked` are the areas to outline. Raises ImageError for an image that cannot be read,
    XraycamError for a heatmap file that cannot, or that belongs to another image.
    """
    radiograph = read_radiograph(image, limits or Limits())
    arrays, margin, sha256 = read_heatmaps(heatmap_file)
    if sha256 != radiograph.sha256:
        raise XraycamError(
            f"{printable(heatmap_file)} holds heatmaps of another image than {printable(image)}, "
            "or the image has changed since; run it again"
        )
    facts = None if describe is None else describe(list(arrays))
    area = None
    if marked is not None and isinstance(image, Path):
        area = marked.of(image, (radiograph.width, radiograph.height))
    preprocessing = Preprocessing.model_validate({"margin": margin})
    return render(radiograph, list(arrays.items()), preprocessing, options, facts, area)
