"""Compressed streams of JPEG, JPEG-LS and JPEG 2000: checked before they are decoded, and for being whole."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np

from worker.errors import ImageError

Values = np.ndarray[Any, np.dtype[Any]]

_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
_JPEG2000 = b"\xff\x4f\xff\x51"
_JPEG = b"\xff\xd8\xff"
_END = b"\xff\xd9"
# Frame markers (ITU-T T.81, table B.1) that libjpeg decodes: Huffman and arithmetic, not hierarchical.
_LOSSY_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_LOSSLESS_FRAMES = (0xC3, 0xCB)
_OTHER_FRAMES = (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF)
_JPEG_LS_FRAME = 0xF7
_MAX_SCANS = 100
_MAX_TILES = 10_000
# Entropy-coded bits of no marker and no regularity.
_PROBE = bytes((number * 97 + 31) % 251 for number in range(512))


@dataclass(frozen=True)
class StreamHeader:
    """`kind`: `JPEG`, `JPEG-LS` or `JPEG 2000`; sizes in pixels, `precision` in bits of a sample.
    `is_ycbcr`: whether the first of three components is luma, None where the stream does not say."""

    kind: str
    width: int
    height: int
    components: int
    precision: int
    is_lossy: bool
    is_ycbcr: bool | None = None


def is_code_stream(content: bytes | memoryview) -> bool:
    """Whether `content` begins like JPEG, JPEG-LS or JPEG 2000."""
    return bytes(content[:12]).startswith((_JPEG, _JPEG2000, _JP2))


def decode_stream(
    stream: bytes, width: int, height: int, samples: int, photometric: str, shown: str, syntax_name: str
) -> tuple[Values, str, int, bool]:
    """Decode one image to `Frame.values`, `model`, `precision` and `is_lossy`.

    `width`, `height`, `samples` and `photometric` are those of the header, with which the stream must agree.
    Raises ImageError: `truncated` where it has no end or decodes in part only, `not-an-image` where it
    contradicts the header or does not decode, `unsupported` for kinds that are not read.
    """
    if stream.startswith(_JP2):
        stream = stream[max(stream.find(_JPEG2000), 0) :]
    is_jpeg2000 = stream.startswith(_JPEG2000)
    # Padded with zeros or FF to an even length, or to that of a block.
    stream = stream.rstrip(b"\0\xff")
    if not stream.endswith(_END):
        raise _cut(shown)
    try:
        head = _read_jpeg2000(stream) if is_jpeg2000 else _read_jpeg(stream)
    except _Incomplete:
        raise _cut(shown) from None
    except (struct.error, IndexError, ValueError):
        raise ImageError(
            "not-an-image", f"{shown} is damaged: its compressed pixels have no header"
        ) from None
    if head is None or head.precision > 16:
        raise ImageError(
            "unsupported", f"{shown} is compressed in a way that is not read ({syntax_name}); export it anew"
        )
    if (head.width, head.height, head.components) != (width, height, samples):
        raise ImageError(
            "not-an-image",
            f"{shown} is damaged: its header says {width} x {height} pixels of {samples} samples, "
            f"its compressed pixels {head.width} x {head.height} of {head.components}",
        )
    try:
        values, model = _decoded(stream, head, photometric)
        if head.kind == "JPEG" and _ends_in_filling(values, head):
            # Missing data are filled with the middle gray, without a word. Of a whole stream, which has a
            # picture of that gray, bits added at the end change nothing.
            probed, _ = _decoded(stream[: -len(_END)] + _PROBE + _END, head, photometric)
            if not np.array_equal(values, probed):
                raise _cut(shown)
    except ImageError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # each codec has its own
        if head.kind == "JPEG-LS" and "too" in str(error).lower():
            raise _cut(shown) from None
        raise ImageError(
            "not-an-image", f"{shown} is damaged: its {head.kind} pixels do not decode; copy it again"
        ) from None
    if values.shape[:2] != (height, width) or values.ndim != (3 if model == "RGB" else 2):
        raise ImageError("not-an-image", f"{shown} is damaged: its compressed pixels are of another size")
    return values, model, head.precision, head.is_lossy


def _decoded(stream: bytes, head: StreamHeader, photometric: str) -> tuple[Values, str]:
    is_luma = photometric.startswith("YBR_FULL") if head.is_ycbcr is None else head.is_ycbcr
    if head.kind == "JPEG 2000":
        # Of the two decoders of HTJ2K this is the one that reports damage.
        values = imagecodecs.jpeg2k_decode(stream, numthreads=1)
        if values.dtype.kind == "i":
            # The sign is extended through the bits that the stream leaves out.
            values = values.astype(np.int16).view(np.uint16)
    elif head.kind == "JPEG-LS":
        values = imagecodecs.jpegls_decode(stream)
    elif head.components == 1:
        return imagecodecs.jpeg8_decode(stream), "stored"
    elif head.is_lossy:
        is_ycbcr = photometric != "RGB" if head.is_ycbcr is None else head.is_ycbcr
        colours = "YCBCR" if is_ycbcr else "RGB"
        return imagecodecs.jpeg8_decode(stream, colorspace=colours, outcolorspace="RGB"), "RGB"
    else:  # the decoder leaves samples as they are, and so only the header says what they are
        values = imagecodecs.jpeg8_decode(stream, colorspace="RGB", outcolorspace="RGB")
        is_luma = photometric != "RGB"
    if head.components == 1:
        return values, "stored"
    return (np.ascontiguousarray(values[..., 0]), "luma") if is_luma else (values, "RGB")


def _ends_in_filling(values: Values, head: StreamHeader) -> bool:
    """Whether the end of the last row is of the gray that libjpeg fills in for missing data."""
    last = values[-1, -8:]
    middle = 1 << (head.precision - 1)
    return bool((last == last[-1]).all() and (np.abs(last.astype(np.int64) - middle) <= 1).all())


def _read_jpeg(stream: bytes) -> StreamHeader | None:
    """The header of JPEG (ITU-T T.81, B.2) or JPEG-LS (T.87, C.2); None for kinds that are not read."""
    frame: tuple[int, int, int, int, int] | None = None
    is_ycbcr: bool | None = None
    at = 2
    while True:
        if stream[at] != 0xFF:
            raise ValueError("no marker")
        while stream[at] == 0xFF:
            at += 1
        marker = stream[at]
        at += 1
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        length = struct.unpack_from(">H", stream, at)[0]
        if length < 2:
            raise ValueError("no length")
        segment = stream[at + 2 : at + length]
        if marker in _OTHER_FRAMES:
            return None
        if marker in (*_LOSSY_FRAMES, *_LOSSLESS_FRAMES, _JPEG_LS_FRAME):
            if frame is not None:
                raise ValueError("two frames")
            precision, height, width, components = struct.unpack_from(">BHHB", segment)
            frame = marker, precision, height, width, components
            if bytes(segment[6 : 6 + 3 * components : 3]) == b"RGB":
                is_ycbcr = False
        elif marker == 0xE0 and segment.startswith(b"JFIF\0"):
            is_ycbcr = True
        elif marker == 0xEE and segment.startswith(b"Adobe") and len(segment) >= 12:
            is_ycbcr = segment[11] != 0
        elif marker == 0xDA:
            break
        elif marker == 0xD9:
            raise ValueError("no scan")
        at += length
    if frame is None:
        raise ValueError("no frame")
    marker, precision, height, width, components = frame
    if marker == _JPEG_LS_FRAME:
        near = segment[1 + 2 * segment[0]]
        return StreamHeader("JPEG-LS", width, height, components, precision, near > 0)
    if stream.count(b"\xff\xda") > _MAX_SCANS:  # each as costly as a whole picture
        return None
    is_lossy = marker in _LOSSY_FRAMES
    return StreamHeader("JPEG", width, height, components, precision, is_lossy, is_ycbcr)


def _read_jpeg2000(stream: bytes) -> StreamHeader | None:
    """The header of a code stream of JPEG 2000 (T.800, A.5 and A.6); None for kinds that are not read."""
    xsize, ysize, xoff, yoff, xtile, ytile, xtoff, ytoff = struct.unpack_from(">8I", stream, 8)
    components = struct.unpack_from(">H", stream, 40)[0]
    depths = [stream[42 + 3 * number : 45 + 3 * number] for number in range(min(components, 4))]
    if xtile == 0 or ytile == 0 or components == 0 or len(depths[-1]) < 3:
        raise ValueError("no tiles")
    tiles = -(-(xsize - xtoff) // xtile) * -(-(ysize - ytoff) // ytile)
    if components > 4 or tiles > _MAX_TILES or any(bytes(depth[1:]) != b"\1\1" for depth in depths):
        return None
    is_lossy, is_mixed = True, False
    at = 4 + struct.unpack_from(">H", stream, 4)[0]
    while stream[at : at + 2] != b"\xff\x90":
        marker, length = struct.unpack_from(">HH", stream, at)
        if marker == 0xFF52:  # coding style: transformation of components, and of wavelets (1: reversible)
            is_mixed, is_lossy = stream[at + 8] == 1, stream[at + 13] != 1
        if length < 2:
            raise ValueError("no length")
        at += 2 + length
    if _tiles_of(stream, at) < tiles:  # the decoder paints the missing ones black
        raise _Incomplete
    precision = max(depth[0] & 0x7F for depth in depths) + 1
    is_ycbcr = False if is_mixed else None
    return StreamHeader("JPEG 2000", xsize - xoff, ysize - yoff, components, precision, is_lossy, is_ycbcr)


def _tiles_of(stream: bytes, at: int) -> int:
    """How many tiles there are in the tile parts from `at` on (T.800, A.4.2)."""
    tiles = set()
    while stream[at : at + 2] == b"\xff\x90":
        tile, length = struct.unpack_from(">HI", stream, at + 4)
        if length and (length < 14 or at + length + len(_END) > len(stream)):
            raise _Incomplete
        tiles.add(tile)
        at = at + length if length else len(stream)
    return len(tiles)


class _Incomplete(Exception):
    """Raised where parts of a code stream are missing."""


def _cut(shown: str) -> ImageError:
    return ImageError("truncated", f"{shown} is cut short in its pixels; copy it again from its source")
