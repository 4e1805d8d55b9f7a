"""The first frame of a DICOM file as stored values, whatever its transfer syntax."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np

from worker.errors import ImageError
from worker.images.dicom_header import BIG_ENDIAN, DEFLATED, IMPLICIT, Header
from worker.images.dicom_streams import decode_stream, is_code_stream
from worker.images.limits import Limits

Values = np.ndarray[Any, np.dtype[Any]]

_NATIVE = {IMPLICIT, "1.2.840.10008.1.2.1", DEFLATED, BIG_ENDIAN}
_ENCAPSULATED_NATIVE = "1.2.840.10008.1.2.1.98"
_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
_RLE = "1.2.840.10008.1.2.5"
_JPEG = "1.2.840.10008.1.2.4."
_CODE_STREAMS = {_JPEG + str(number) for number in (*range(50, 67), 70, 80, 81, 90, 91, 201, 202, 203)}
_SUPPORTED = _NATIVE | _CODE_STREAMS | {_ENCAPSULATED_NATIVE, _DEFLATED_FRAMES, _RLE}
_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_MAX_FRAGMENTS = 100_000


@dataclass(frozen=True)
class PixelFormat:
    """What the header says of the pixels (PS3.3, C.7.6.3). `frames` is their number."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    is_signed: bool
    photometric: str
    is_planar: bool
    frames: int

    @property
    def frame_bytes(self) -> int:
        """The bytes of one frame that is not compressed."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.allocated // 8


@dataclass(frozen=True)
class Frame:
    """`values`: uint8 or uint16 (rows, columns), or (rows, columns, 3) where `model` is `RGB`.
    `model`: `stored` for values that a table turns into gray, `luma` for gray of 8 bits taken from colour,
    `RGB`. `is_lossy`, and `precision`, the bits of a sample, are those of the compressed stream."""

    values: Values
    model: str
    precision: int
    is_lossy: bool


def read_format(header: Header, shown: str, limits: Limits) -> PixelFormat:
    """The format of the pixels. Raises ImageError `unsupported` for transfer syntaxes and formats not read,
    `too-large` and `too-small`, `not-an-image` for a header that contradicts itself."""
    elements = header.elements
    if header.transfer_syntax and header.transfer_syntax not in _SUPPORTED:
        raise ImageError(
            "unsupported",
            f"{shown} is of the transfer syntax {header.syntax_name}, which is not read; "
            "export it as Explicit VR Little Endian or JPEG Lossless",
        )
    rows, columns = elements.integer("Rows") or 0, elements.integer("Columns") or 0
    _require_size(columns, rows, shown, limits)
    photometric = elements.text("PhotometricInterpretation").upper()
    is_colour = photometric.startswith(("RGB", "YBR_"))
    samples = elements.integer("SamplesPerPixel") or (3 if is_colour else 1)
    allocated = elements.integer("BitsAllocated") or 0
    stored = elements.integer("BitsStored") or allocated
    high = elements.integer("HighBit")
    high = stored - 1 if high is None else high
    if allocated not in (8, 16) or header_has_floats(header):
        raise ImageError(
            "unsupported", f"{shown} has {allocated} bits allocated for a sample; 8 and 16 are read"
        )
    if not stored - 1 <= high < allocated or samples != (3 if is_colour else 1):
        raise _contradiction(
            shown, f"{stored} bits stored up to bit {high} of {allocated}, {samples} samples"
        )
    known = ("", "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422")
    if photometric not in (*known, "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_422", "YBR_PARTIAL_420"):
        raise ImageError("unsupported", f"{shown} has a photometric interpretation that is not read")
    return PixelFormat(
        rows=rows,
        columns=columns,
        samples=samples,
        allocated=allocated,
        stored=stored,
        high=high,
        is_signed=elements.integer("PixelRepresentation") == 1,
        photometric=photometric,
        is_planar=elements.integer("PlanarConfiguration") == 1,
        frames=max(elements.integer("NumberOfFrames") or 1, 1),
    )


def header_has_floats(header: Header) -> bool:
    """Whether the pixels are floating-point numbers."""
    start = header.pixel_start or 0
    return header.content[start + 2 : start + 4] in (b"\x08\0", b"\x09\0", b"\0\x08", b"\0\x09")


def first_frame(header: Header, form: PixelFormat, shown: str, accept: frozenset[str]) -> Frame:
    """Decode the first frame. Raises ImageError `truncated` for pixels that are cut short, `not-an-image` for
    such as contradict the header, `multi-frame` for frames that the header did not tell of."""
    start, length, representation = _value_of_pixels(header)
    content = memoryview(header.content)
    if length == _UNDEFINED or bytes(content[start : start + 4]) == _ITEM:
        end = len(content) if length == _UNDEFINED else start + length
        return _encapsulated(header, form, content[start:end], shown, accept)
    if header.transfer_syntax not in _NATIVE and header.transfer_syntax:
        raise _contradiction(shown, f"pixels that are not compressed under {header.syntax_name}")
    _require_length(length, len(content) - start, form, shown)
    swap_bytes = form.allocated == 8 and representation == b"OW" and not header.is_little_endian
    return _native(content[start : start + length], form, header.is_little_endian, swap_bytes, shown)


def _require_size(width: int, height: int, shown: str, limits: Limits) -> None:
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


def _require_length(length: int, available: int, form: PixelFormat, shown: str) -> None:
    """Fewer bytes than the header promises are a cut; a row more, or so, is a header that lies."""
    expected = form.frame_bytes * form.frames
    if min(length, available) < expected:
        raise _cut(shown)
    if length - expected >= max(form.frame_bytes // form.rows, 512):
        raise _contradiction(shown, f"{form.columns} x {form.rows} pixels, and there are more")


def _value_of_pixels(header: Header) -> tuple[int, int, bytes]:
    """Where the value of PixelData begins, its length and its representation."""
    start = header.pixel_start or 0
    order = "<" if header.is_little_endian else ">"
    representation = header.content[start + 4 : start + 6]
    # In implicit files these are bytes of an even length, and so never the O or U of one of these.
    if representation in (b"OB", b"OW", b"UN"):
        return start + 12, _number(header.content[start + 8 : start + 12], order), representation
    return start + 8, _number(header.content[start + 4 : start + 8], order), b""


def _number(content: bytes, order: str) -> int:
    return int(struct.unpack(order + "I", content)[0]) if len(content) == 4 else 0


def _native(
    content: bytes | memoryview, form: PixelFormat, is_little: bool, swap_bytes: bool, shown: str
) -> Frame:
    if len(content) < form.frame_bytes:
        raise _cut(shown)
    kind = "u1" if form.allocated == 8 else ("<u2" if is_little else ">u2")
    count = form.frame_bytes // (form.allocated // 8)
    if swap_bytes:
        pairs = np.frombuffer(content, np.uint8, (len(content)) // 2 * 2)
        values = pairs.reshape(-1, 2)[:, ::-1].ravel()[:count]
    else:
        values = np.frombuffer(content, kind, count)
    if not is_little and form.allocated == 16:
        values = values.astype(np.uint16)
    return _shaped(values, form, form.is_planar, shown)


def _shaped(values: Values, form: PixelFormat, is_planar: bool, shown: str) -> Frame:
    """Values in the order of the file as a frame."""
    if form.samples == 1:
        return Frame(values.reshape(form.rows, form.columns), "stored", form.allocated, False)
    if form.photometric == "YBR_FULL_422":
        # Two lumas before the two chromas that they share.
        luma = np.ascontiguousarray(values[: len(values) // 4 * 4].reshape(-1, 4)[:, :2])
        return Frame(luma.reshape(form.rows, form.columns), "luma", form.allocated, False)
    if form.photometric not in ("RGB", "YBR_FULL"):
        raise ImageError("unsupported", f"{shown} has a photometric interpretation that is not read")
    if is_planar:
        colours = values.reshape(3, form.rows, form.columns).transpose(1, 2, 0)
    else:
        colours = values.reshape(form.rows, form.columns, 3)
    if form.photometric == "YBR_FULL":
        return Frame(np.ascontiguousarray(colours[..., 0]), "luma", form.allocated, False)
    return Frame(np.ascontiguousarray(colours), "RGB", form.allocated, False)


def _encapsulated(
    header: Header, form: PixelFormat, content: memoryview, shown: str, accept: frozenset[str]
) -> Frame:
    stream = _first_stream(header, form, content, shown, accept)
    syntax = header.transfer_syntax
    if is_code_stream(stream):
        values, model, precision, is_lossy = decode_stream(
            stream, form.columns, form.rows, form.samples, form.photometric, shown, header.syntax_name
        )
        return Frame(values, model, precision, is_lossy)
    if syntax == _ENCAPSULATED_NATIVE:
        return _native(stream, form, True, False, shown)
    if syntax == _DEFLATED_FRAMES:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        return _native(inflater.decompress(stream, form.frame_bytes), form, True, False, shown)
    if syntax == _RLE or (not syntax and _looks_like_rle(stream)):
        return _run_lengths(stream, form, shown)
    if len(stream) < 4:
        raise _cut(shown)
    raise ImageError("not-an-image", f"{shown} is damaged: its pixels are not {header.syntax_name}")


def _first_stream(
    header: Header, form: PixelFormat, content: memoryview, shown: str, accept: frozenset[str]
) -> bytes:
    """The fragments of the first frame, joined (PS3.5, A.4)."""
    items = list(_items(content, shown))
    if not items:
        raise _cut(shown)
    offsets: list[int] = []
    if not is_code_stream(items[0][1]):
        table = bytes(items.pop(0)[1])
        offsets = [offset for (offset,) in struct.iter_unpack("<I", table[: len(table) // 4 * 4])]
    extended = header.elements.content("ExtendedOffsetTable")
    if len(extended) >= 8:
        offsets = [offset for (offset,) in struct.iter_unpack("<Q", extended[: len(extended) // 8 * 8])]
    if not items:
        raise _cut(shown)
    beginnings = sum(is_code_stream(part) for _, part in items)
    if form.frames == 1 and max(beginnings, len(offsets)) > 1 and "multi-frame" not in accept:
        raise ImageError(
            "multi-frame",
            f"{shown} holds more frames than its header tells of; export the one to be explained, "
            "or accept multi-frame to read the first",
        )
    if max(form.frames, beginnings, len(offsets)) == 1:
        return b"".join(part for _, part in items)
    if len(offsets) > 1:
        first = items[0][0]
        return b"".join(part for at, part in items if at - first < offsets[1])
    if beginnings > 1:
        second = [at for at, part in items if is_code_stream(part)][1]
        return b"".join(part for at, part in items if at < second)
    if len(items) != form.frames:
        raise _contradiction(shown, f"{form.frames} frames in {len(items)} fragments")
    return bytes(items[0][1])


def _items(content: memoryview, shown: str) -> Iterator[tuple[int, memoryview]]:
    """Position and content of every item up to the sequence delimiter or the end."""
    at = 0
    for _ in range(_MAX_FRAGMENTS):
        if len(content) - at < 8 or bytes(content[at : at + 4]) != _ITEM:
            if bytes(content[at : at + 4]) in (b"\xfe\xff\xdd\xe0", b"") or len(content) - at < 8:
                return
            raise ImageError("not-an-image", f"{shown} is damaged: its pixels are not in fragments")
        length = struct.unpack_from("<I", content, at + 4)[0]
        if at + 8 + length > len(content):
            raise _cut(shown)
        yield at, content[at + 8 : at + 8 + length]
        at += 8 + length
    raise ImageError("not-an-image", f"{shown} is damaged: its pixels are in too many fragments")


def _looks_like_rle(stream: bytes) -> bool:
    return len(stream) > 64 and struct.unpack_from("<I", stream, 4)[0] == 64 and 0 < stream[0] < 16


def _run_lengths(stream: bytes, form: PixelFormat, shown: str) -> Frame:
    """RLE of PS3.5, annex G: one segment for each byte of each sample."""
    if len(stream) < 64:
        raise _cut(shown)
    segments = struct.unpack_from("<I", stream)[0]
    size = form.rows * form.columns
    if segments != form.samples * form.allocated // 8:
        raise _contradiction(shown, f"{form.samples} samples of {form.allocated} bits in {segments} segments")
    expected = size * segments
    kind = "<u2" if form.allocated == 16 else "u1"
    decoded = bytearray(expected)  # of known size, so that runs cannot fill the memory
    try:
        length = len(imagecodecs.dicomrle_decode(stream, kind, out=decoded))
    except (RuntimeError, ValueError) as error:
        if "TOO_SMALL" in str(error):
            raise _contradiction(shown, f"{form.columns} x {form.rows} pixels, and there are more") from None
        raise _cut(shown) from None
    if length < expected:
        raise _cut(shown)
    return _shaped(np.frombuffer(decoded, kind), form, True, shown)


def _cut(shown: str) -> ImageError:
    return ImageError("truncated", f"{shown} holds fewer pixels than its header says; copy it again")


def _contradiction(shown: str, what: str) -> ImageError:
    return ImageError("not-an-image", f"{shown} is damaged, its header contradicts it: {what}")
