"""TIFF and BigTIFF of any depth: the first whole page, with what its tags say of black and white."""

from __future__ import annotations

import io
import logging
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from worker.errors import ImageError
from worker.images.depth import Range, Values, gray_image, luma, seen
from worker.images.headers import (
    JPEG,
    StreamHeader,
    jpeg2000_header,
    jpeg_header,
    jpegxl_header,
)
from worker.images.limits import Limits

MAX_BYTES_PER_PIXEL = 8
_MAX_PAGES = 16  # looked through for the first that is no thumbnail

# Tags (TIFF 6.0 and its supplements).
_ORIENTATION, _MIN, _MAX, _SMIN, _SMAX, _EXTRA_SAMPLES = 274, 280, 281, 340, 341, 338
_SUBFILE_TYPE, _REDUCED = 255, 2
_UNASSOCIATED = 2  # of ExtraSamples: alpha that the colours are not multiplied by yet
_COMPRESSIONS = {1, 5, 7, 8, 32773, 32946, 34712, 34925, 50000, 50002}
_STREAMS = {7: jpeg_header, 34712: jpeg2000_header, 50002: jpegxl_header}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it finds is said once, in our own words


class CutShort(ValueError):
    """Raised where the file ends before what it announces."""


@dataclass(frozen=True)
class TiffImage:
    """The first page of a file that is neither a mask nor a reduced copy of another, its samples not decoded
    yet. Sides in pixels. `is_first`: none comes before it, `has_others`: more such pages follow."""

    content: bytes
    page: tifffile.TiffPage
    width: int
    height: int
    is_first: bool
    has_others: bool

    @property
    def is_plain(self) -> bool:
        """Whether all samples are unsigned integers of at most 8 bits, shown as they are."""
        return _most(self.page.bitspersample) <= 8 and _most(self.page.sampleformat) == 1

    def unsupported(self) -> str | None:
        """What about the page is not read, in words; None if it can be."""
        page = self.page
        if page.compression not in _COMPRESSIONS:
            return f"its compression ({_named(page.compression, tifffile.COMPRESSION)})"
        if page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK, _YCBCR):
            return f"its colours ({_named(page.photometric, tifffile.PHOTOMETRIC)})"
        if page.photometric == _YCBCR and page.compression != 7:
            return "its colours (YCBCR without JPEG compression)"
        if page.dtype is None or page.dtype.kind not in "uif" or isinstance(page.bitspersample, tuple):
            return f"its samples ({page.bitspersample!r:.40} bits of sample format {page.sampleformat!r:.40})"
        if page.imagedepth != 1:
            return "its volume of several slices in one page"
        return None

    def decode(self) -> Image.Image:
        """Mode L, upright. Raises CutShort, or what the decoder raises for damage."""
        page = self.page
        samples = self._samples()
        declared, white_is_zero = self._declared(), page.photometric == _WHITE_IS_ZERO
        values = self._gray(samples)
        if _UNASSOCIATED in page.extrasamples and samples.shape[-1] in (2, 4) and samples.dtype.kind == "u":
            values = seen(values, samples[..., -1])
        if self.is_plain:
            declared = (0.0, float(2 ** _most(page.bitspersample) - 1))
            image = Image.fromarray(plain(values, declared[1], white_is_zero))
        else:
            image = gray_image(values, declared, zero_is_white=white_is_zero)
        return turned(image, self._number(_ORIENTATION) or 1)

    def _samples(self) -> Values:
        """(height, width, samples), whole, by segments whose own sizes are checked before they decode."""
        page = self.page
        count = math.prod(page.chunked)
        if len(page.dataoffsets) < count or len(page.databytecounts) < count:
            raise ValueError("it names fewer strips or tiles than its size needs")
        separate, _, height, width, contiguous = page.shaped
        whole = np.empty((separate, height, width, contiguous), page.dtype)
        tables: dict[str, Any] = {}
        if page.compression == 7:
            tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        for index in range(count):
            offset, length = page.dataoffsets[index], page.databytecounts[index]
            if not offset or not length or offset + length > len(self.content):
                raise CutShort("a strip or tile lies beyond its end")
            data = self.content[offset : offset + length]
            self._check_stream(data)
            part, (plane, _, top, left, _), shape = page.decode(data, index, **tables)
            rows, columns = min(shape[1], height - top), min(shape[2], width - left)
            whole[plane, top : top + rows, left : left + columns] = part[0, :rows, :columns]
        samples: Values = whole[0] if separate == 1 else np.moveaxis(whole[..., 0], 0, -1)
        return samples

    def _check_stream(self, data: bytes) -> None:
        """A code stream in a strip or tile must be no larger than that; its own header decides what the
        decoder allocates."""
        page = self.page
        if page.compression not in _STREAMS:
            return
        header: StreamHeader | None = _STREAMS[page.compression](data)
        rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
        columns = page.tilewidth if page.is_tiled else page.imagewidth
        if header is None:
            raise ValueError("a strip or tile is not the code stream that its compression names")
        if not (0 < header.width <= columns + 64 and 0 < header.height <= rows + 64):
            raise ValueError("the size in a strip or tile is not that of the image")
        if data.startswith(JPEG) and data.find(b"\xff\xd9", header.start) < 0:
            raise CutShort("a strip or tile has no end")

    def _gray(self, samples: Values) -> Values:
        photometric, number = self.page.photometric, samples.shape[-1]
        if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO):
            return samples[..., 0].copy()
        if photometric in (_RGB, _YCBCR) and number >= 3:
            return luma(samples)
        if photometric == _CMYK and number >= 4 and samples.dtype.kind == "u":
            full = 2 ** _most(self.page.bitspersample) - 1
            key = full - samples[..., 3].astype(np.float64)
            ink = full - luma(samples[..., :3]).astype(np.float64)
            gray: Values = np.floor(ink * key / full + 0.5).astype(samples.dtype)
            return gray
        raise ValueError(f"it has {number} samples a pixel, which do not fit its colours")

    def _declared(self) -> Range | None:
        """From SMinSampleValue and SMaxSampleValue; from BitsPerSample where that is not whole bytes; from
        MaxSampleValue, by the standard a mere statistic, where it is all ones, such as 4095."""
        bits, dtype = _most(self.page.bitspersample), self.page.dtype
        is_unsigned = dtype is not None and dtype.kind == "u"
        low, high = self._number(_SMIN), self._number(_SMAX)
        if high is not None and (low is not None or is_unsigned):
            low = low or 0.0
            is_default = is_unsigned and low == 0 and high == 2**bits - 1 and bits % 8 == 0
            if low < high and not is_default:
                return low, high
        if is_unsigned and bits % 8:
            return 0.0, float(2**bits - 1)
        largest = self._number(_MAX)
        if is_unsigned and largest and largest.is_integer() and 255 <= largest < 2**bits - 1:
            is_ones = int(largest) & (int(largest) + 1) == 0
            return (self._number(_MIN) or 0.0, largest) if is_ones else None
        return None

    def _number(self, tag: int) -> Any:
        found = self.page.tags.get(tag)
        value = None if found is None else found.value
        if isinstance(value, tuple | list | np.ndarray):
            value = value[0] if len(value) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return value if tag == _ORIENTATION else float(value)


def open_tiff(content: bytes, shown: str, limits: Limits) -> TiffImage:
    """Reads the tags of the pages. Raises ImageError for one whose decoded samples take too much
    memory, ValueError or what tifffile raises for damage."""
    file = tifffile.TiffFile(io.BytesIO(content))
    page, has_others = _whole_page(file)
    image = TiffImage(content, page, int(page.imagewidth), int(page.imagelength), page.index == 0, has_others)
    decoded = math.prod(page.shaped) * (page.dtype.itemsize if page.dtype is not None else 1)
    tile = page.tilewidth * page.tilelength * page.tiledepth if page.is_tiled else 0
    if max(decoded, tile) > limits.max_pixels * MAX_BYTES_PER_PIXEL:
        raise ImageError(
            "too-large",
            f"{shown} takes {max(decoded, tile):,} bytes when decoded; the limit is "
            f"{limits.max_pixels * MAX_BYTES_PER_PIXEL:,}",
        )
    return image


def _whole_page(file: tifffile.TiffFile) -> tuple[tifffile.TiffPage, bool]:
    """The page that holds the picture, and whether there are others: not a mask, nor a thumbnail, which some
    writers put first. Where all say that they are such, the first."""
    first = last = file.pages.first
    if not isinstance(first, tifffile.TiffPage):
        raise ValueError("it has no page")
    found: list[tifffile.TiffPage] = []
    seen: set[int] = set()
    for index in range(_MAX_PAGES):
        try:
            page = file.pages[index]
        except Exception:  # of no such page, or a damaged one, many kinds
            break
        if page.offset in seen:  # a circle
            break
        seen.add(page.offset)
        if isinstance(page, tifffile.TiffPage):
            last = page
            found += [] if _is_copy_or_mask(page) else [page]
        if len(found) > 1:
            break
    if not found and _names_next(file, last):
        raise CutShort("the page that its thumbnail is of lies beyond its end")
    return found[0] if found else first, len(found) > 1


def _names_next(file: tifffile.TiffFile, page: tifffile.TiffPage) -> bool:
    """Whether the directory of `page` names one that follows, wherever that would lie."""
    form, handle = file.tiff, file.filehandle
    handle.seek(page.offset)
    (count,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
    handle.seek(page.offset + form.tagnosize + count * form.tagsize)
    return any(handle.read(form.offsetsize))


def _is_copy_or_mask(page: tifffile.TiffPage) -> bool:
    """By NewSubfileType, or by SubfileType, which it replaced."""
    older = page.tags.get(_SUBFILE_TYPE)
    return page.is_reduced or page.is_mask or (older is not None and older.value == _REDUCED)


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Upright, from the orientation of TIFF or EXIF, 1 to 8; any other number turns nothing."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def plain(values: Values, full: float, zero_is_white: bool) -> Values:
    """Unsigned samples of at most 8 bits as uint8 from 0 to 255."""
    scaled = (np.minimum(values, full) * (255 / full) + 0.5).astype(np.uint8)
    return 255 - scaled if zero_is_white else scaled


def _most(value: Any) -> int:
    return int(max(value)) if isinstance(value, tuple) else int(value)


def _named(value: Any, names: Any) -> str:
    """The name of a tag's value, or what is there instead, printable."""
    try:
        return str(names(value).name)
    except ValueError:
        return ascii(value)[:40]
