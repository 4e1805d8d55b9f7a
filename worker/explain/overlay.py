"""Overlays: heatmaps over a radiograph, side by side, written as files, drawn again in other colours."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from worker.errors import ImageError, XraycamError
from worker.explain.blending import (
    Heatmap,
    blend,
    draw_blended,
    draw_outlines,
    lookup_table,
    new_canvas,
    picture_of,
    put,
)
from worker.explain.caption import OverlayFacts, band
from worker.explain.names import FULL
from worker.explain.options import ExplainOptions, OutputFormat
from worker.file_names import printable
from worker.images.limits import Limits
from worker.images.masks import AnnotationMasks
from worker.images.reader import Radiograph, read_radiograph
from worker.model.metadata import Preprocessing
from worker.remote.folder import RemotePath
from worker.safe_files import atomic_write_beneath, raise_if_target_unavailable

_LARGEST_FILE = 500_000_000  # of heatmaps
_MONTAGE_GAP = 4
_MONTAGE_INK = (255, 255, 255)
_MONTAGE_LETTERS = 0.7  # height of a name, of its bar


def montage(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """One RGB picture of `panels` (name, picture), all of one size, from left to right, in rows of
    `montage_columns`.

    A bar above each panel, a twentieth of its width, with several rows a twelfth, but at least 20 pixels
    high, holds the name: the more pictures, the smaller they are looked at.
    """
    width, height = panels[0][1].size
    columns = montage_columns(len(panels))
    rows = -(-len(panels) // columns)
    bar = max(20, width // (20 if rows == 1 else 12))
    across, down = width + _MONTAGE_GAP, bar + height + _MONTAGE_GAP
    whole = Image.new("RGB", (columns * across - _MONTAGE_GAP, rows * down - _MONTAGE_GAP))
    draw = ImageDraw.Draw(whole)
    names = _distinct([name for name, _ in panels], draw, width - 8, bar)
    for index, (name, (_, picture)) in enumerate(zip(names, panels, strict=True)):
        left, top = index % columns * across, index // columns * down
        whole.paste(picture, (left, top + bar))
        label, font = _fit_size(draw, name, width - 8, bar)
        draw.text((left + width / 2, top + bar / 2), label, fill=_MONTAGE_INK, font=font, anchor="mm")
    return whole


def montage_columns(panels: int) -> int:
    """How many of `panels` pictures stand side by side: up to four all of them, else three or four, whichever
    leaves fewer places empty. A row of twelve would be a line on a screen."""
    if panels <= 4:
        return panels
    return 3 if -panels % 3 < -panels % 4 else 4


def _distinct(names: list[str], draw: ImageDraw.ImageDraw, width: float, bar: int) -> list[str]:
    """`names`, without the first words that all maps share where they do not fit in the size that fills the
    `bar`: the rest tells them apart.

    The first name is that of the original where it is one word.
    """
    font = ImageFont.load_default(int(bar * _MONTAGE_LETTERS))
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
    for size in range(int(bar * _MONTAGE_LETTERS), 9, -1):
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
    """`draw`, as an RGB image."""
    return draw(radiograph, heatmaps, preprocessing, options, facts, area).convert("RGB")


def draw(
    radiograph: Radiograph,
    heatmaps: Heatmaps,
    preprocessing: Preprocessing,
    options: ExplainOptions,
    facts: OverlayFacts | None = None,
    area: Image.Image | None = None,
) -> Image.Image:
    """The overlay, RGB or RGBX, of `heatmaps` (layer name, float (h, w) in 0..1), with its caption below.

    One layer: the radiograph with the heat over it. Several: side by side, the original first, each named. A
    heatmap that is 0 everywhere leaves the plain radiograph. Uses `overlay_side`, `colormap`, `opacity` and
    `caption` of `options`; the radiograph is reduced first, then drawn on. Without `facts` there is no
    caption and each map has its own scale. `area` (mode L, 0 or 255, of the whole radiograph) is outlined.
    Raises ImageError `too-large` for a strip of more than STRIP_PIXELS.
    """
    gray = reduced(radiograph, options.overlay_side).pixels
    width, height = gray.size
    if len(heatmaps) > 1 and (len(heatmaps) + 1) * width * height > STRIP_PIXELS:
        raise ImageError(
            "too-large",
            f"a strip of {len(heatmaps) + 1} pictures of {width} x {height} pixels would have more than "
            f"{STRIP_PIXELS:,}, the limit; choose fewer layers, methods, classes, or another --overlay-side",
        )
    table = lookup_table(options.colormap)
    box = preprocessing.box(width, height)
    strengths = {} if facts is None else facts.strengths()
    if area is not None and area.size != gray.size:
        area = area.resize(gray.size, Image.Resampling.BOX)
    # Half precision is what `save_heatmaps` keeps: drawing from it makes `recolour` equal to the bit.
    halved = [(name, heatmap.astype(np.float16)) for name, heatmap in heatmaps]
    if len(halved) == 1:
        strip = None
        size = (width, height)
    else:
        drawn = [
            (name, blend(gray, heatmap, box, table, options.opacity, strengths.get(name, 1.0)))
            for name, heatmap in halved
        ]
        if area is not None:
            for _, picture in drawn:
                draw_outlines(picture, 0, area)
        strip = montage([("original", gray.convert("RGB")), *drawn])
        size = strip.size
    caption = band(facts, size, table) if facts is not None and options.caption else None
    if strip is not None and caption is None:
        return strip
    # Drawn where it stays: a copy of an image of 100 megapixels takes 400 MB.
    canvas = new_canvas(size if caption is None else (caption.width, size[1] + caption.height))
    left = (canvas.shape[1] - size[0]) // 2
    if canvas.shape[1] > size[0]:
        canvas.fill(0)
    if caption is not None:
        put(canvas, caption, 0, size[1])
    if strip is not None:
        put(canvas, strip, left, 0)
        return picture_of(canvas)
    for name, heatmap in halved:
        strength = strengths.get(name, 1.0)
        draw_blended(canvas, gray, heatmap, box, table, options.opacity, strength, left)
    result = picture_of(canvas)
    if area is not None:
        draw_outlines(result, left, area)
    return result


def drawn_size(width: int, height: int, side: int | str) -> tuple[int, int]:
    """Width and height at which an image is drawn: its own, but `side` pixels on the longer side at most,
    or FULL."""
    longer = max(width, height)
    if side == FULL or longer <= int(side):
        return width, height
    return max(1, round(width * int(side) / longer)), max(1, round(height * int(side) / longer))


def reduced(radiograph: Radiograph, side: int | str) -> Radiograph:
    """`radiograph` with its pixels as they are drawn, see `drawn_size`; `width` and `height` stay its own.

    First by a whole factor, each pixel the mean of those it covers, then the rest of the way (Hamming).
    """
    size = drawn_size(radiograph.width, radiograph.height, side)
    if radiograph.pixels.size == size:
        return radiograph
    pixels = radiograph.pixels.resize(size, Image.Resampling.HAMMING, reducing_gap=1.0)
    return replace(radiograph, pixels=pixels)


def encode(image: Image.Image, output_format: OutputFormat, facts: OverlayFacts | None = None) -> bytes:
    """`image` as a file's content. Raises ImageError where the format cannot hold so large a picture.

    `facts` go into PNG's text (Description, xraycam) or into EXIF (ImageDescription, UserComment): the
    caption as a line, and all of them as JSON.
    """
    buffer = io.BytesIO()
    if output_format != "jpeg" and image.mode == "RGBX":
        image = image.convert("RGB")
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
    radiograph = read_radiograph(image, limits or Limits(), accept=frozenset(options.accept))
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
