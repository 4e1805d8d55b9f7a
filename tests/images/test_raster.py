"""Every format is read as what it holds, or refused for the reason that is true."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.support.made_raster import (
    HEIGHT,
    Values,
    deep,
    encodings,
    netpbm,
    opaque,
    pages,
    phantom,
    rgb,
    saved,
    tiff,
)
from worker.errors import ImageError
from worker.images.depth import gray_image
from worker.images.limits import Limits
from worker.images.raster import decode_raster

pytestmark = pytest.mark.filterwarnings("ignore")

ENCODINGS = encodings()


def read(content: bytes, limits: Limits | None = None) -> Values:
    return np.asarray(decode_raster(content, "x", limits or Limits()))


def refused(content: bytes, limits: Limits | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_raster(content, "x", limits or Limits())
    assert str(caught.value).isprintable()
    return caught.value


def assert_is_phantom(found: Values, number: int = 1) -> None:
    truth = phantom(number)
    assert found.shape == truth.shape
    assert np.abs(found.astype(int) - truth).mean() <= 3


@pytest.mark.parametrize("name", sorted(ENCODINGS))
def test_every_format_is_read_as_the_picture_it_holds(name: str) -> None:
    assert_is_phantom(read(ENCODINGS[name]))


@pytest.mark.parametrize("name", sorted(ENCODINGS))
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_file_that_ends_early_is_called_cut(name: str, share: float) -> None:
    content = ENCODINGS[name]
    if name in ("TIFF with a thumbnail", "TIFF with a mask") and share == 0.8:
        return  # its first page is whole
    assert refused(content[: int(len(content) * share)]).reason == "truncated"


def test_a_thumbnail_is_not_explained_in_place_of_what_is_cut_off() -> None:
    content = ENCODINGS["TIFF 8 with a thumbnail first"]
    for length in range(8, 1600, 8):
        assert refused(content[:length]).reason in ("truncated", "not-an-image")


def animated(form: str) -> bytes:
    """The phantom, then its mirror image."""
    stream = io.BytesIO()
    first = Image.fromarray(deep(8))
    first.save(stream, form, save_all=True, append_images=[ImageOps.mirror(first)])
    return stream.getvalue()


@pytest.mark.parametrize("form", ["TIFF", "GIF", "WEBP", "PNG", "TIFF 12"])
def test_several_pictures_are_refused_or_the_first_is_read_on_demand(form: str) -> None:
    is_deep = form == "TIFF 12"
    content = pages((deep(12), {}), (deep(12)[:, ::-1], {})) if is_deep else animated(form)
    assert refused(content).reason == "multi-frame"
    accepted = decode_raster(content, "x", Limits(), frozenset({"multi-frame"}))
    assert_is_phantom(np.asarray(accepted))


@pytest.mark.parametrize(("kind", "white", "values"), [("5", 255, 1024), ("6", 255, 3072), ("5", 4095, 2048)])
def test_pictures_behind_the_first_of_a_pgm_are_not_left_out(kind: str, white: int, values: int) -> None:
    one = f"P{kind}\n32 32\n{white}\n".encode() + (bytes(range(0, 256, 32)) * values)[:values]
    decode_raster(one + b"\n", "x", Limits())
    for between in (b"", b"\n"):
        assert refused(one + between + one).reason == "multi-frame"


def test_pages_are_counted_within_the_limits_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever allows larger files than usual has their pages counted, too."""
    stream = io.BytesIO()
    pages = [Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32) + n) for n in range(2)]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    monkeypatch.setattr("worker.images.tiff.MAX_BYTES_PER_PIXEL", 1e-6)  # 100 bytes by the usual limit
    with pytest.raises(ImageError) as caught:
        decode_raster(stream.getvalue(), "x", Limits(max_pixels=10**12))
    assert caught.value.reason == "multi-frame"


def hiding(gray: Values, channels: int) -> Values:
    """`gray`, in so many channels, with the lower half white and hidden behind an alpha channel."""
    full = np.iinfo(gray.dtype).max
    drawn, alpha = gray.copy(), np.full_like(gray, full)
    drawn[HEIGHT // 2 :], alpha[HEIGHT // 2 :] = full, 0
    return np.dstack([drawn] * channels + [alpha])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "form", ["PNG 8", "PNG 16", "JPEG XL", "TIFF 8", "TIFF 16", "WebP", "PNG of a palette"]
)
def test_what_is_transparent_is_not_shown(form: str, channels: int) -> None:
    values = hiding(deep(16 if form.endswith("16") else 8), channels)
    if form == "PNG of a palette":
        content = saved(Image.fromarray(values).convert("RGBA").quantize(256), "PNG")
    elif form.startswith("PNG"):
        content = imagecodecs.png_encode(values)
    elif form == "JPEG XL":
        content = imagecodecs.jpegxl_encode(values, lossless=True)
    elif form == "WebP":
        content = saved(Image.fromarray(values).convert("RGBA"), "WEBP", lossless=True, exact=True)
    else:
        photometric = "minisblack" if channels == 1 else "rgb"
        content = tiff(values, photometric=photometric, extrasamples=["unassalpha"], planarconfig="contig")
    found = read(content)
    assert (found[HEIGHT // 2 :] == 0).all()
    assert np.abs(found[: HEIGHT // 2].astype(int) - phantom()[: HEIGHT // 2]).mean() <= 5


NEGATIVES: dict[str, tuple[Values, dict[str, Any]]] = {
    "8": (255 - deep(8), {}),
    "8 LZW": (255 - deep(8), {"compression": "lzw"}),
    "8 JPEG": (255 - deep(8), {"compression": "jpeg", "compressionargs": {"level": 98}}),
    "8 ZSTD": (255 - deep(8), {"compression": "zstd"}),
    "8 tiled": (255 - deep(8), {"tile": (32, 32), "compression": "deflate"}),
    "8 with alpha": (opaque(255 - deep(8)), {"extrasamples": ["unassalpha"], "planarconfig": "contig"}),
    "8 BigTIFF": (255 - deep(8), {"bigtiff": True}),
    "10 packed": (1023 - deep(10), {"bitspersample": 10}),
    "12 packed": (4095 - deep(12), {"bitspersample": 12}),
    "12 of 16": (4095 - deep(12), {}),
    "12 from the top of 16": (65535 - deep(12), {}),
    "14 of 16": (16383 - deep(14), {}),
    "16": (65535 - deep(16), {}),
    "16 deflate": (65535 - deep(16), {"compression": "deflate", "predictor": True}),
    "32": (np.uint32(2**32 - 1) - deep(16).astype(np.uint32) * np.uint32(65537), {}),
    "float16": ((1 - deep(8) / 255).astype(np.float16), {}),
    "float32": ((1 - deep(8) / 255).astype(np.float32), {"compression": "deflate", "predictor": 3}),
    "float64": (1 - deep(8) / 255, {}),
}


@pytest.mark.parametrize("name", sorted(NEGATIVES))
def test_a_tiff_whose_0_is_white_is_no_negative_at_any_depth(name: str) -> None:
    values, options = NEGATIVES[name]
    assert_is_phantom(read(tiff(values, photometric="miniswhite", **options)))


@pytest.mark.parametrize("bits", [1, 4])
def test_few_bits_whose_0_is_white_are_no_negative(bits: int) -> None:
    levels = (deep(8).astype(int) * 2**bits // 256).astype(np.uint8)
    if bits == 1:
        content = tiff(~levels.astype(bool), photometric="miniswhite")
    else:
        content = tiff(15 - levels, photometric="miniswhite", bitspersample=4)
    np.testing.assert_allclose(read(content), levels * (255 / (2**bits - 1)), atol=1)


def test_cmyk_jpeg_of_adobe_is_read_and_one_without_its_mark_is_refused() -> None:
    content = saved(Image.fromarray(rgb(phantom())).convert("CMYK"), "JPEG", quality=95)
    assert_is_phantom(read(content))
    at = content.index(b"\xff\xee")
    (length,) = struct.unpack_from(">H", content, at + 2)
    error = refused(content[:at] + content[at + 2 + length :])
    assert error.reason == "unsupported"
    assert "whether 0 is ink or paper" in str(error)


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        (deep(12) + np.uint16(20_000), [(340, "H", 1, 20_000), (341, "H", 1, 24_095)]),
        (deep(12, white=3000) + np.uint16(500), [(340, "H", 1, 500), (341, "H", 1, 3500)]),
        (deep(12, white=2047) * np.uint16(1), [(341, "H", 1, 2047)]),
        (deep(12, white=3000), [(341, "H", 1, 3000)]),
        (deep(12), [(341, "H", 1, 65535)]),  # of the file, and says nothing
        (deep(12), [(281, "H", 1, 4095)]),
        (deep(12), [(281, "H", 1, 17)]),  # is not so
        ((deep(8) / 10).astype(np.float32), [(340, "f", 1, 0.0), (341, "f", 1, 25.5)]),
    ],
)
def test_the_range_a_tiff_names_is_black_to_white_where_it_is_true(values: Values, tags: list[Any]) -> None:
    assert_is_phantom(read(tiff(values, extratags=tags)))


def test_a_dark_image_stays_dark_where_the_file_names_its_depth() -> None:
    dark = (deep(12) // 4).astype(np.uint16)
    truth = phantom() / 4
    files = {
        "TIFF": tiff(dark, bitspersample=12),
        "tag": tiff(dark, extratags=[(341, "H", 1, 4095)]),
        "PGM": netpbm("P5", dark, 4095),
        "JPEG lossless": imagecodecs.ljpeg_encode(dark, bitspersample=12),
        "JPEG 2000": imagecodecs.jpeg2k_encode(dark, level=0, bitspersample=12),
        "sBIT": with_chunk(imagecodecs.png_encode(dark), b"sBIT", b"\x0c"),
    }
    for name, content in files.items():
        assert np.abs(read(content) - truth).mean() <= 1, name


def with_chunk(content: bytes, kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    """A PNG with one chunk more after its header."""
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return (
        content[:33] + struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum) + content[33:]
    )


@pytest.mark.parametrize("values", [deep(8), rgb(deep(8)), deep(16), rgb(deep(12)), opaque(deep(12))])
@pytest.mark.parametrize("kind", [b"tEXt", b"iCCP", b"eXIf", b"sBIT", b"tIME", b"prVt"])
def test_a_bad_checksum_of_what_makes_no_pixel_is_no_damage(values: Values, kind: bytes) -> None:
    content = with_chunk(imagecodecs.png_encode(values), kind, b"k\0something", checksum=1)
    assert_is_phantom(read(content))


@pytest.mark.parametrize("values", [deep(8), deep(16), rgb(deep(12))])
@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT"])
def test_a_bad_checksum_of_pixels_or_size_is_named(values: Values, kind: bytes) -> None:
    content = bytearray(imagecodecs.png_encode(values))
    at = content.index(kind)
    (length,) = struct.unpack_from(">I", content, at - 4)
    content[at + 4 + length] ^= 1
    error = refused(bytes(content))
    assert error.reason == "not-an-image"
    assert f"the checksum of its {kind.decode()} chunk is wrong" in str(error)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["TIFF", "PNG", "PNG RGB", "JPEG 12"])
def test_the_orientation_is_applied_to_deep_files_too(form: str, orientation: int) -> None:
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    turned = Image.fromarray(phantom())
    if undo is not None:
        turned = turned.transpose(Image.Transpose(undo))
    stored = np.round(np.asarray(turned) / 255 * 4095).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    if form == "TIFF":
        content = tiff(stored, extratags=[(274, "H", 1, orientation)])
    elif form.startswith("PNG"):
        plain = imagecodecs.png_encode(rgb(stored) if form == "PNG RGB" else stored)
        content = with_chunk(plain, b"eXIf", exif.tobytes()[6:])
    else:
        plain = imagecodecs.jpeg8_encode(stored, level=98, bitspersample=12)
        data = exif.tobytes()
        content = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(data) + 2) + data + plain[2:]
    assert_is_phantom(read(content))


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (imagecodecs.jpegxr_encode(deep(8)), "JPEG XR"),
        (b"%PDF-1.7\n" + bytes(99), "PDF"),
        (b"\0\0\0\x20ftypheic" + bytes(99), "HEIC"),
        (b"\0\0\0\x20ftypavif" + bytes(99), "AVIF"),
        (b"8BPS\0\1" + bytes(99), "Photoshop"),
        (b"\x93NUMPY\1\0" + bytes(99), "NumPy"),
        (b"P7\nWIDTH 9\n" + bytes(99), "PAM"),
        (b"PF\n9 9\n-1.0\n" + bytes(999), "colour PFM"),
        (tiff(deep(8), compression="lerc"), "LERC"),
        (tiff(deep(16).astype(np.complex64)), "its samples"),
    ],
)
def test_formats_that_are_not_read_are_unsupported_by_name(content: bytes, name: str) -> None:
    error = refused(content)
    assert error.reason == "unsupported"
    assert name in str(error)
    assert "export it as PNG" in str(error)


def test_sound_and_other_content_of_riff_files_is_not_called_cut() -> None:
    assert refused(b"RIFF\x24\0\0\0WAVEfmt " + bytes(99)).reason == "not-an-image"


@pytest.mark.parametrize(
    "values",
    [
        deep(8) * 0,
        deep(8) // 20 + np.uint8(100),
        (deep(8) < 0) * np.uint8(255),
        deep(16) * 0 + np.uint16(700),
        (deep(16) > 65534 * 2) * np.uint16(1) + np.uint16(30_000),
        (deep(8) * 0 + 0.25).astype(np.float32),
        1000 + deep(8) / 1e6,
    ],
)
def test_flat_images_have_no_contrast_whatever_their_depth(values: Values) -> None:
    assert refused(tiff(values)).reason == "no-contrast"


@pytest.mark.parametrize("depth", [8, 16])
def test_all_but_a_few_equal_pixels_have_no_contrast(depth: int) -> None:
    values = np.zeros((200, 200), np.uint8 if depth == 8 else np.uint16)
    values[:20, :39] = 2**depth - 1  # under 2%
    assert refused(tiff(values)).reason == "no-contrast"
    values[:20, :60] = 2**depth - 1  # 3%
    assert read(tiff(values)).max() == 255


def test_12_bits_in_16_that_were_made_8_have_no_contrast_but_a_faint_image_has() -> None:
    assert refused(saved(Image.fromarray(deep(8) // 17), "PNG")).reason == "no-contrast"
    faint = deep(8) // 8 + np.uint8(90)
    np.testing.assert_array_equal(read(saved(Image.fromarray(faint), "PNG")), faint)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "PPM"])
def test_8_bits_stay_exactly_as_they_are(form: str) -> None:
    np.testing.assert_array_equal(read(saved(Image.fromarray(phantom()), form)), phantom())
    colour = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    if form != "GIF":
        luma = np.asarray(Image.fromarray(colour).convert("L"))
        np.testing.assert_array_equal(read(saved(Image.fromarray(colour), form)), luma)


def test_colours_of_16_bits_become_the_luma_of_all_16() -> None:
    colour = np.random.default_rng(1).integers(0, 65536, (64, 64, 3), np.uint16)
    luma = (colour * np.array([0.299, 0.587, 0.114])).sum(axis=2) / 257
    for content in (imagecodecs.png_encode(colour), tiff(colour), netpbm("P6", colour, 65535)):
        assert np.abs(read(content) - luma).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("number", range(2, 8))
def test_phantoms_keep_their_gray_levels_through_outliers_of_every_kind(bits: int, number: int) -> None:
    rng = np.random.default_rng(number)
    values = deep(bits, number).astype(np.int64)
    marker = np.zeros(values.shape, bool)
    marker[4:12, 5:15] = True
    smooth = np.clip(rng.random(values.shape) * 1.2, 0, 1)[..., None] * marker[..., None]
    letters = np.round(values * (1 - smooth[..., 0]) + 65535 * smooth[..., 0]).astype(np.int64)
    kinds: dict[str, tuple[Values, Any]] = {
        "marker": (np.where(marker, 65535, values), np.uint16),
        "smooth marker": (letters, np.uint16),
        "signed": (values - 1024, np.int32),
        "signed with padding": (np.where(marker, -32768, values - 1024), np.int32),
        "32 bits": (values, np.uint32),
        "32 bits with an offset": (values + 10**6, np.uint32),
    }
    if bits < 16:
        kinds["hot pixel"] = (np.where(rng.random(values.shape) < 1e-4, 65535, values), np.uint16)
        kinds["offset"] = (values + 20_000, np.uint16)
        kinds["offset with black padding"] = (np.where(marker, 0, values + 20_000), np.uint16)
        kinds["offset with a marker"] = (np.where(marker, 65535, values + 20_000), np.uint16)
    for kind, (stored, dtype) in kinds.items():
        found = np.asarray(gray_image(stored.astype(dtype))).astype(int)
        difference = np.abs(found - phantom(number))[~marker].mean()
        assert difference <= 3, (kind, difference)
