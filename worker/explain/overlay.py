"""Overlays: drawing them, writing them, and drawing them again from kept heatmaps."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from worker.errors import ImageError, XraycamError
from worker.explain.blend import Heatmap, blend
from worker.explain.colormap import lookup_table
from worker.explain.confined import write_below
from worker.explain.options import ExplainOptions, OutputFormat
from worker.explain.read import Limits, Radiograph, read_radiograph
from worker.explain.storage import require_writable
from worker.explain.strip import strip
from worker.file_names import printable
from worker.model.description import Preprocessing

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
    return strip([("original", radiograph.pixels.convert("RGB")), *pictures])


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
    or `outside-root`; with `root`, StorageError if nothing can be written there at present.
    """
    try:
        write_below(root or file.parent, file, content)
    except OSError as error:
        if root is not None:
            require_writable(root, error)
        raise ImageError(
            "write-failed",
            f"{printable(file)} cannot be written: {error.strerror}; mend the output folder and retry",
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


def recolour(
    image: Path, heatmap_file: Path, options: ExplainOptions, limits: Limits | None = None
) -> Image.Image:
    """The overlay of `image` from kept heatmaps, in the colours and opacity of `options`; no model needed.

    Equal to what `render` gave with the same options. Raises ImageError for an image that cannot be read,
    XraycamError for a heatmap file that cannot, or that belongs to another image.
    """
    radiograph = read_radiograph(image, limits or Limits())
    try:
        with np.load(heatmap_file, allow_pickle=False) as archive:
            arrays = dict(archive)
        margin, sha256 = float(arrays.pop(_MARGIN)), str(arrays.pop(_SHA256))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise XraycamError(
            f"{printable(heatmap_file)} is not a file of heatmaps ({error}); run with --heatmaps to make one"
        ) from error
    if sha256 != radiograph.sha256:
        raise XraycamError(
            f"{printable(heatmap_file)} holds heatmaps of another image than {printable(image)}, "
            "or the image has changed since; run it again"
        )
    return render(radiograph, list(arrays.items()), Preprocessing.model_validate({"margin": margin}), options)
