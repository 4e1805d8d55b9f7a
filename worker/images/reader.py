"""From a file to 8-bit gray pixels, or to the one reason why not. No TensorFlow here."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from worker.errors import ImageError
from worker.file_names import printable
from worker.images.dicom import DicomFacts, decode_dicom, is_dicom
from worker.images.limits import LARGE_PIXELS as LARGE_PIXELS
from worker.images.limits import Limits as Limits
from worker.images.limits import one_large_at_a_time as one_large_at_a_time
from worker.safe_files import open_beneath, raise_if_source_unavailable

if TYPE_CHECKING:
    from worker.settings import Settings

# Pillow's own limit is one number for the whole process and only warns at first; `Limits` is checked
# below for every file, after the header and before a single pixel is decoded.
Image.MAX_IMAGE_PIXELS = None

# No format that runs a program (EPS), reads other files, or holds icons.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
_ROWS = 64
_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"GIF8", b"RIFF", b"\0\0\0\x0cjP")


def limits_of(settings: Settings) -> Limits:
    """The limits that the settings name."""
    return Limits(max_pixels=settings.max_pixels, max_bytes=settings.max_bytes)


@dataclass(frozen=True)
class Radiograph:
    """A decoded image. `pixels` is a loaded Pillow image of mode L, upright, `width` x `height`.
    `dicom`: what the header of a DICOM file says, None for other files."""

    pixels: Image.Image
    width: int
    height: int
    sha256: str
    dicom: DicomFacts | None = None


def read_radiograph(
    file: Path, limits: Limits, root: Path | None = None, accept: frozenset[str] = frozenset()
) -> Radiograph:
    """Read `file` once, hash its content (SHA-256, hexadecimal) and decode it to 8-bit gray.

    With `root`, a real folder, no file is read that lies outside, nor through a link.
    Colour becomes luma (ITU-R 601), transparency is ignored, the EXIF orientation is applied, of several
    frames the first is taken. More than 8 bits are scaled linearly, see `to_gray`. Of DICOM, frontal
    radiographs of the chest are read and what `accept` adds to them, see `decode_dicom`.
    Raises ImageError for every file that cannot be explained, StorageError if nothing below `root` can be
    read at present, and nothing else.
    """
    shown = printable(file)
    content = _content(file, shown, limits, root)
    if is_dicom(content):
        decoded = decode_dicom(content, shown, limits, accept)
        return Radiograph(decoded.pixels, *decoded.size, hashlib.sha256(content).hexdigest(), decoded.facts)
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(image, shown, limits)
            is_large = image.width * image.height > LARGE_PIXELS
            with one_large_at_a_time if is_large else nullcontext():
                image.load()
                _turn_upright(image)
                pixels = to_gray(image)
    except ImageError:
        raise
    except Exception as error:
        raise _explained(error, content, shown) from error
    return Radiograph(pixels, pixels.width, pixels.height, hashlib.sha256(content).hexdigest())


def to_gray(image: Image.Image) -> Image.Image:
    """`image` as mode L.

    Integers of more than 8 bits are divided by 2^bits - 1, where `bits` is the smallest number of bits that
    holds the brightest pixel: radiographs of 10, 12 or 15 bits are stored in files of 16, which do not say
    so. Black stays black, relative brightness stays. Floats run from their minimum to their maximum.
    """
    if image.mode == "L":
        return image if type(image) is Image.Image else image.copy()
    if image.mode.startswith("I"):
        values = np.asarray(image)
        low, high = min(int(values.min()), 0), int(values.max())
        full = (1 << max((high - low).bit_length(), 8)) - 1
        if values.dtype.itemsize == 2:  # by table, which needs no floats of the whole image
            table = (np.arange(full + 1) * (255 / full) + 0.5).astype(np.uint8)
            return Image.fromarray(table[values])
        return _scaled(values, low, 255 / full)
    if image.mode == "F":
        floats = np.asarray(image)
        darkest, brightest = float(floats.min()), float(floats.max())
        if not np.isfinite([darkest, brightest]).all():  # a NaN makes the extremes NaN
            raise ValueError("it holds values that are not numbers")
        return _scaled(floats, darkest, 255 / ((brightest - darkest) or 1))
    if image.mode in ("1", "LA", "La"):
        return image.convert("L")
    return (image if image.mode == "RGB" else image.convert("RGB")).convert("L")


def _scaled(values: np.ndarray[Any, Any], low: float, factor: float) -> Image.Image:
    """(values - low) * factor, rounded, as mode L; in blocks of rows, whose doubles need little memory."""
    scaled = np.empty(values.shape, np.uint8)
    for row in range(0, len(values), _ROWS):
        block = values[row : row + _ROWS].astype(np.float64)
        scaled[row : row + _ROWS] = (block - low) * factor + 0.5
    return Image.fromarray(scaled)


def _content(file: Path, shown: str, limits: Limits, root: Path | None) -> bytes:
    try:
        with os.fdopen(open_beneath(file, root), "rb", buffering=0) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("unreadable", f"{shown} is not a regular file")
            if status.st_size > limits.max_bytes:
                raise ImageError(
                    "too-large", f"{shown} has {status.st_size:,} bytes; the limit is {limits.max_bytes:,}"
                )
            content = _read_all(stream.fileno(), status.st_size)
    except FileNotFoundError as error:
        if root is not None:
            raise_if_source_unavailable(root, error)
        raise ImageError("missing", f"{shown} is no longer there; restore it and retry") from None
    except PermissionError:
        raise ImageError(
            "unreadable", f"{shown} may not be read by this user; check its permissions"
        ) from None
    except (OSError, ValueError) as error:
        if root is not None and isinstance(error, OSError):
            raise_if_source_unavailable(root, error)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError("unreadable", f"{shown} cannot be read: {reason}") from error
    if not content:
        raise ImageError("empty", f"{shown} is empty (0 bytes); copy it again from its source")
    return content


def _read_all(descriptor: int, size: int) -> bytes:
    """`size` bytes, or what there is: a file that grows meanwhile is cut, one that shrinks is short."""
    parts = []
    while size > 0 and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _check_size(image: Image.Image, shown: str, limits: Limits) -> None:
    width, height = image.size
    if min(width, height) < limits.min_side:
        raise ImageError(
            "too-small",
            f"{shown} is {width} x {height} pixels; at least {limits.min_side} on each side are needed",
        )
    if width * height > limits.max_pixels:
        raise ImageError(
            "too-large",
            f"{shown} is {width} x {height} pixels; the limit is {limits.max_pixels:,} pixels in all",
        )


def _turn_upright(image: Image.Image) -> None:
    # Damaged EXIF, which Pillow reports in many ways, says nothing about the pixels.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _explained(error: Exception, content: bytes, shown: str) -> ImageError:
    cause = " ".join(str(error).split()) or type(error).__name__
    unknown = isinstance(error, UnidentifiedImageError)
    if "truncat" in cause.lower() or isinstance(error, EOFError) or (unknown and _starts_well(content)):
        return ImageError("truncated", f"{shown} is cut short; copy it again from its source")
    if unknown:
        known = ", ".join(FORMATS)
        return ImageError("not-an-image", f"{shown} is not an image of a known format ({known})")
    if isinstance(error, MemoryError):
        return ImageError("too-large", f"{shown} does not fit into memory; lower the limit on pixels")
    return ImageError("not-an-image", f"{shown} is damaged and does not decode: {cause}")


def _starts_well(content: bytes) -> bool:
    return content.startswith(_BEGINNINGS)
