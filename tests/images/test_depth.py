"""Images of any depth are shown at their depth: each kind of encoding gives the gray levels it was made from.

The truth is a picture of 8 bits; each file holds it in another way. A mean difference of 3 gray levels is
the most that rounding and outliers may cost.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from worker.errors import ImageError
from worker.images.depth import black_and_white
from worker.images.limits import Limits
from worker.images.reader import read_radiograph

Array = np.ndarray[Any, Any]
DEPTHS = (10, 12, 14, 16)


def picture() -> Array:
    """Smooth and rough parts, some black, some white: uint8 (192, 160)."""
    rows, columns = np.mgrid[0:192, 0:160]
    noise = np.random.default_rng(5).normal(0, 6, rows.shape)
    chest = 150 - 110 * np.exp(-(((columns - 45) / 25) ** 2) - ((rows - 90) / 50) ** 2)
    chest -= 100 * np.exp(-(((columns - 115) / 25) ** 2) - ((rows - 90) / 50) ** 2)
    chest += 60 * np.exp(-(((columns - 80) / 14) ** 2)) + noise
    chest[:6], chest[-6:] = 0, 255
    return np.clip(chest, 0, 255).astype(np.uint8)


TRUTH = picture()


def stored(bits: int) -> Array:
    """The truth over the full range of `bits` bits: uint16."""
    return np.round(TRUTH.astype(np.float64) * (2**bits - 1) / 255).astype(np.uint16)


def png16(values: Array, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits, gray or colour, with chunks `extra` before its pixels, written out by hand."""
    height, width, channels = (*values.shape, 1)[:3]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = values.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)), *extra]
    chunks += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, data in chunks:
        parts.append(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))
    return b"".join(parts)


def tiff(values: Array, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def marked(bits: int) -> Array:
    values = stored(bits)
    values[:3, :9] = 65535
    return values


def one_pixel_over(bits: int) -> Array:
    values = stored(bits)
    values[100, 80] = min(65535, 2**bits + 2**bits // 3)
    return values


def inverted(bits: int) -> Array:
    return (2**bits - 1 - stored(bits)).astype(np.uint16)


def signed(bits: int) -> Array:
    return (stored(bits).astype(np.int32) - 2 ** (bits - 1)).astype(np.int16)


def jpeg2000(bits: int) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(stored(bits), bitspersample=bits, reversible=True, level=0))


def padded(bits: int, value: int) -> Array:
    values = np.full((192, 220), value, np.uint16)
    values[:, 30:190] = stored(bits)
    return values


def colour(values: Array, channels: int = 3) -> Array:
    layers = [values] * min(channels, 3) if channels >= 3 else [values]
    if channels in (2, 4):
        layers.append(np.full_like(values, 65535))
    return np.dstack(layers)


ENCODINGS: dict[str, Callable[[int], bytes]] = {
    "png": lambda bits: png16(stored(bits)),
    "png with a marker at 65535": lambda bits: png16(marked(bits)),
    "png with one pixel over": lambda bits: png16(one_pixel_over(bits)),
    "png with its significant bits told": lambda bits: png16(stored(bits), (b"sBIT", bytes([bits]))),
    "png shifted up": lambda bits: png16(stored(bits) << (16 - bits), (b"sBIT", bytes([bits]))),
    "png in colour": lambda bits: png16(colour(stored(bits))),
    "png with alpha": lambda bits: png16(colour(stored(bits), 2)),
    "png in colour with alpha": lambda bits: png16(colour(stored(bits), 4)),
    "png in colour with a marker": lambda bits: png16(colour(marked(bits))),
    "tiff": lambda bits: tiff(stored(bits)),
    "tiff whose 0 is white": lambda bits: tiff(inverted(bits), photometric="miniswhite"),
    "tiff in colour": lambda bits: tiff(colour(stored(bits)), photometric="rgb"),
    "tiff with its largest value told": lambda bits: tiff(
        stored(bits), extratags=[(280, "H", 1, 0, True), (281, "H", 1, 2**bits - 1, True)]
    ),
    "tiff of single floats": lambda bits: tiff(stored(bits).astype(np.float32)),
    "tiff of signed values": lambda bits: tiff(signed(bits)),
    "jpeg 2000": lambda bits: jpeg2000(bits),
    "jpeg lossless": lambda bits: imagecodecs.ljpeg_encode(stored(bits), bitspersample=bits),
    "jpeg-ls": lambda bits: imagecodecs.jpegls_encode(stored(bits)),
}  # fmt: skip


def read(content: bytes, folder: Path) -> Array:
    file = folder / "image"
    file.write_bytes(content)
    return np.asarray(read_radiograph(file, Limits()).pixels)


@pytest.mark.parametrize("bits", DEPTHS)
@pytest.mark.parametrize("kind", list(ENCODINGS))
def test_every_encoding_of_a_picture_gives_that_picture(kind: str, bits: int, tmp_path: Path) -> None:
    found = read(ENCODINGS[kind](bits), tmp_path)
    assert found.shape == TRUTH.shape
    assert np.abs(found.astype(int) - TRUTH).mean() <= 3


@pytest.mark.parametrize("value", [0, 65535])
@pytest.mark.parametrize("bits", DEPTHS)
def test_padding_of_one_extreme_value_does_not_decide_the_scale(
    bits: int, value: int, tmp_path: Path
) -> None:
    found = read(png16(padded(bits, value)), tmp_path)[:, 30:190]
    assert np.abs(found.astype(int) - TRUTH).mean() <= 3


@pytest.mark.parametrize("offset", [20_000, 40_000])
def test_an_offset_is_taken_off(offset: int, tmp_path: Path) -> None:
    found = read(png16((stored(12) + offset).astype(np.uint16)), tmp_path)
    assert np.abs(found.astype(int) - TRUTH).mean() <= 3


@pytest.mark.parametrize("fraction", [np.float16, np.float32, np.float64])
def test_fractions_from_0_to_1_are_black_to_white(fraction: Any, tmp_path: Path) -> None:
    found = read(tiff((TRUTH / 255).astype(fraction)), tmp_path)
    assert np.abs(found.astype(int) - TRUTH).mean() <= 1


def test_12_bit_jpeg_is_read(tmp_path: Path) -> None:
    content = imagecodecs.jpeg8_encode(stored(12), level=98, bitspersample=12)
    assert np.abs(read(content, tmp_path).astype(int) - TRUTH).mean() <= 2


def test_8_bits_are_left_exactly_as_they_are(tmp_path: Path) -> None:
    dark = (TRUTH // 3).astype(np.uint8)
    for values in (TRUTH, dark):
        stream = io.BytesIO()
        Image.fromarray(values).save(stream, "png")
        assert (read(stream.getvalue(), tmp_path) == values).all()


def test_an_image_that_uses_little_of_its_depth_stays_as_dark_as_it_is(tmp_path: Path) -> None:
    # 12 bits of which 60% are used: relative brightness is not stretched.
    values = (stored(12) * 0.6).astype(np.uint16)
    assert abs(int(read(png16(values), tmp_path).max()) - 0.6 * 255) <= 1


def test_black_and_white_by_hand() -> None:
    ramp = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    assert black_and_white(ramp) == (0.0, 4095.0)
    assert black_and_white(ramp * 16 + 15) == (0.0, 65535.0)
    assert black_and_white(ramp.astype(np.int32) - 2048) == (-2048.0, 2047.0)
    assert black_and_white(ramp + 30_000) == (30_000.0, 34_095.0)
    assert black_and_white(ramp, significant_bits=14) == (0.0, 16383.0)


@pytest.mark.parametrize(
    "values",
    [
        np.full((64, 64), 90, np.uint16),
        np.full((64, 64), 60_000, np.uint16),
        (np.arange(4096).reshape(64, 64) % 4 + 1000).astype(np.uint16),
    ],
)
def test_an_image_without_contrast_fails_rather_than_be_answered(values: Array, tmp_path: Path) -> None:
    with pytest.raises(ImageError) as failure:
        read(png16(values), tmp_path)
    assert failure.value.reason == "no-contrast"


def test_a_flat_image_of_8_bits_has_no_contrast_either(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("L", (64, 64), 77).save(stream, "png")
    with pytest.raises(ImageError) as failure:
        read(stream.getvalue(), tmp_path)
    assert failure.value.reason == "no-contrast"


def test_a_bad_checksum_counts_only_where_pixels_depend_on_it(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(TRUTH).save(stream, "png", dpi=(72, 72))
    content = bytearray(stream.getvalue())
    physical = content.index(b"pHYs")
    content[physical + 13] ^= 0xFF  # in its checksum
    assert (read(bytes(content), tmp_path) == TRUTH).all()
    damaged = bytearray(stream.getvalue())
    damaged[damaged.index(b"IDAT") + 40] ^= 0xFF
    with pytest.raises(ImageError) as failure:
        read(bytes(damaged), tmp_path)
    assert failure.value.reason in ("truncated", "not-an-image")
