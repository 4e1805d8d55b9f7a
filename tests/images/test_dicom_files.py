"""DICOM under every transfer syntax, in fragments, without header, cut short, and with a header that lies."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest

from tests.support.made_dicom import (
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    FOUR,
    HTJ2K,
    IMPLICIT,
    JPEG,
    JPEG_12,
    JPEG_2000,
    JPEG_2000_LOSSY,
    JPEG_LOSSLESS,
    JPEG_LS,
    JPEG_LS_NEAR,
    RLE,
    TINY,
    code_stream,
    dicom,
    elements,
    gray,
    picture,
    refused,
    written,
)
from worker.images.dicom import decode_dicom, is_dicom
from worker.images.limits import Limits

# Transfer syntaxes


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize(
    "syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED, JPEG_LOSSLESS, JPEG_LS, JPEG_2000, HTJ2K, RLE]
)
def test_lossless_syntaxes_give_the_same_gray(syntax: str, bits: int) -> None:
    values = picture(bits=bits)
    is_native = syntax in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
    frames = None if is_native else [code_stream(syntax, values)]
    tags: dict[str, Any] = {"BitsStored": bits, "WindowCenter": 1 << (bits - 1), "WindowWidth": 1 << bits}
    assert gray(values, syntax, frames=frames, **tags) == gray(values, **tags)


@pytest.mark.parametrize("syntax", [JPEG, JPEG_12, JPEG_LS_NEAR, JPEG_2000_LOSSY])
def test_lossy_syntaxes_give_nearly_the_same_gray(syntax: str) -> None:
    bits = 8 if syntax == JPEG else 12
    values = picture(bits=bits)
    tags: dict[str, Any] = {"BitsStored": bits, "WindowCenter": 1 << (bits - 1), "WindowWidth": 1 << bits}
    found = gray(values, syntax, frames=[code_stream(syntax, values)], **tags)
    assert np.abs(np.array(found) - gray(values, **tags)).max() <= 16


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE])
def test_colour_of_every_syntax_becomes_luma(syntax: str) -> None:
    colours = np.stack([picture(bits=8), picture(bits=8)[::-1], picture(bits=8)[:, ::-1]], 2).copy()
    found = gray(colours, syntax, frames=[code_stream(syntax, colours)])
    assert np.abs(np.array(found) - gray(colours)).max() <= 1


@pytest.mark.parametrize("syntax", [JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE])
def test_luma_of_ybr_is_its_first_sample_in_every_lossless_syntax(syntax: str) -> None:
    luma = picture(bits=8)
    samples = np.stack([luma, np.full_like(luma, 128), np.full_like(luma, 120)], 2)
    if syntax == JPEG_2000:
        stream = imagecodecs.jpeg2k_encode(samples, codecformat="j2k", level=0, reversible=True, mct=False)
    elif syntax == JPEG_LOSSLESS:
        stream = imagecodecs.jpeg8_encode(samples, lossless=True, colorspace="RGB", outcolorspace="RGB")
    else:
        stream = code_stream(syntax, samples)
    found = gray(samples, syntax, frames=[bytes(stream)], PhotometricInterpretation="YBR_FULL")
    assert found == list(luma.ravel())


def test_lossy_colour_keeps_its_contrast_whatever_the_header_calls_it() -> None:
    grays = np.repeat(picture(bits=8)[..., None], 3, 2)
    for photometric in ("YBR_FULL_422", "YBR_FULL", "RGB"):
        found = gray(grays, JPEG, frames=[code_stream(JPEG, grays)], PhotometricInterpretation=photometric)
        assert np.abs(np.array(found) - picture(bits=8).ravel()).max() <= 12


def test_white_that_overshot_in_a_lossy_stream_stays_white() -> None:
    values = np.full((64, 64), 1023, np.uint16)
    values[::2, ::3] = 0
    content = gray(
        values,
        JPEG_12,
        frames=[code_stream(JPEG_12, values)],
        BitsStored=10,
        WindowCenter=512,
        WindowWidth=1024,
    )
    assert np.abs(np.array(content) - (values.ravel() // 4)).max() <= 20


def test_sign_survives_compression() -> None:
    values = picture().astype(np.int16) - 2000
    for syntax in (JPEG_2000, RLE):
        raw = values if syntax == JPEG_2000 else values.view(np.uint16)
        assert gray(values, syntax, frames=[code_stream(syntax, raw)]) == gray(values)


def test_file_without_preamble_and_meta_is_read() -> None:
    for syntax in (IMPLICIT, EXPLICIT):
        assert gray(FOUR, syntax, headless=True) == gray(FOUR)


def test_file_without_meta_is_read_when_compressed() -> None:
    values = picture()
    for syntax in (JPEG_LOSSLESS, RLE):
        frames = [code_stream(syntax, values)]
        assert gray(values, frames=frames, headless=True) == gray(values)


def test_frame_in_several_fragments_is_joined() -> None:
    values = picture()
    whole = code_stream(JPEG_LOSSLESS, values)
    parts = [whole[start : start + 1000] for start in range(0, len(whole), 1000)]
    content = dicom(values, JPEG_LOSSLESS, frames=parts, BitsStored=12)
    # The offset table of pydicom takes each fragment for a frame: it is left empty here.
    content = without_offsets(content, len(parts))
    image = decode_dicom(content, "a.dcm", TINY)
    assert [*np.asarray(image.pixels).ravel()] == gray(values, BitsStored=12)


def without_offsets(content: bytes, entries: int) -> bytes:
    table = content.index(struct.pack("<HHI", 0xFFFE, 0xE000, 4 * entries))
    return content[: table + 4] + bytes(4) + content[table + 8 + 4 * entries :]


def test_extended_offsets_lead_to_the_first_frame() -> None:
    first, second = picture(), picture()[::-1].copy()
    frames = [code_stream(JPEG_LOSSLESS, values) for values in (first, second)]
    frames = [frame + b"\0" * (len(frame) % 2) for frame in frames]
    content = dicom(
        first,
        JPEG_LOSSLESS,
        frames=frames,
        NumberOfFrames=2,
        ExtendedOffsetTable=struct.pack("<2Q", 0, len(frames[0]) + 8),
        ExtendedOffsetTableLengths=struct.pack("<2Q", *map(len, frames)),
    )
    content = without_offsets(content, 2)
    assert refused(content).reason == "multi-frame"
    image = decode_dicom(content, "a.dcm", TINY, frozenset({"multi-frame"}))
    assert [*np.asarray(image.pixels).ravel()] == gray(first)


def test_more_frames_than_the_header_tells_of_are_refused() -> None:
    frames = [code_stream(JPEG_LOSSLESS, picture())] * 2
    assert refused(dicom(picture(), JPEG_LOSSLESS, frames=frames)).reason == "multi-frame"


def test_first_of_several_frames_is_read_on_demand() -> None:
    both = np.concatenate([FOUR, FOUR + np.uint16(9)])
    content = dicom(FOUR, pixels=both.tobytes(), NumberOfFrames=2)
    assert refused(content).reason == "multi-frame"
    image = decode_dicom(content, "a.dcm", TINY, frozenset({"multi-frame"}))
    assert [*np.asarray(image.pixels).ravel()] == [0, 85, 170, 255]


@pytest.mark.parametrize(
    ("syntax", "name"),
    [
        ("1.2.840.10008.1.2.4.100", "MPEG2"),
        ("1.2.840.10008.1.2.4.94", "JPIP"),
        ("1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.110"),
        ("1.2.3.4.5", "1.2.3.4.5"),
    ],
)
def test_unknown_transfer_syntax_is_named(syntax: str, name: str) -> None:
    content = dicom(FOUR, frames=[b"\0" * 64])
    # Replaced in place, since pydicom writes none that it does not know.
    content = content.replace(b"UI\x14\x001.2.840.10008.1.2.1\0", ui(syntax))
    error = refused(content)
    assert error.reason == "unsupported"
    assert name in str(error) or "JPEG XL" in str(error)


def ui(uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return b"UI" + struct.pack("<H", len(value)) + value


@pytest.mark.parametrize("bits", [1, 32])
def test_other_depths_are_refused(bits: int) -> None:
    content = dicom(FOUR, BitsAllocated=bits, BitsStored=bits, HighBit=bits - 1)
    assert refused(content).reason == "unsupported"


def test_float_pixels_are_refused() -> None:
    dataset = elements(FOUR)
    dataset.FloatPixelData = np.zeros(4, np.float32).tobytes()
    assert refused(written(dataset)).reason == "unsupported"


# Files cut short, headers that lie


@pytest.mark.parametrize("syntax", [JPEG, JPEG_12, JPEG_LOSSLESS, JPEG_LS, JPEG_2000, HTJ2K, RLE])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.98])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9", b"\0" * 400])
def test_cut_stream_is_never_half_a_picture(syntax: str, kept: float, end: bytes) -> None:
    values = picture(200, 200, 8 if syntax == JPEG else 12)
    whole = code_stream(syntax, values)
    content = dicom(values, syntax, frames=[whole[: int(len(whole) * kept)] + end])
    error = refused(content)
    if end == b"" or syntax in (JPEG, JPEG_12, JPEG_LOSSLESS):
        assert error.reason == "truncated" or kept == 0.05


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, JPEG_LOSSLESS, JPEG_LS, RLE])
def test_file_cut_anywhere_is_refused(syntax: str) -> None:
    values = picture()
    frames = [code_stream(syntax, values)] if syntax in (JPEG_LOSSLESS, JPEG_LS, RLE) else None
    whole = dicom(values, syntax, frames=frames)
    for end in (*range(133, 700, 7), *range(700, len(whole) - 20, len(whole) // 50)):
        assert refused(whole[:end]).reason in ("truncated", "not-an-image", "no-pixels", "too-small"), end
    assert refused(whole[: len(whole) // 2]).reason == "truncated"


def test_flat_middle_gray_to_the_end_is_a_whole_picture() -> None:
    for syntax, middle in ((JPEG, 128), (JPEG_LOSSLESS, 128)):
        values = picture(200, 200, 8)
        values[100:] = middle
        found = gray(values, syntax, frames=[code_stream(syntax, values)])
        assert found[-200:] == [middle] * 200


def test_stream_may_be_padded() -> None:
    values = picture()
    stream = code_stream(JPEG_LOSSLESS, values)
    for padding in (b"\0", b"\xff\xff", b"\0" * 511):
        assert gray(values, JPEG_LOSSLESS, frames=[stream + padding]) == gray(values)


def test_fewer_pixels_than_the_header_says_are_refused() -> None:
    content = dicom(picture(), pixels=picture().tobytes()[:-200])
    assert refused(content).reason == "truncated"


def test_more_pixels_than_the_header_says_are_refused() -> None:
    for tags in ({"Rows": 48}, {"Columns": 40}, {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}):
        assert refused(dicom(picture(), **tags)).reason == "not-an-image"


def test_size_in_the_stream_must_be_that_of_the_header() -> None:
    for syntax in (JPEG_LOSSLESS, JPEG_LS, JPEG_2000):
        frames = [code_stream(syntax, picture(200, 200))]
        assert refused(dicom(picture(), syntax, frames=frames)).reason == "not-an-image"


def test_size_is_checked_before_decoding() -> None:
    content = dicom(FOUR, Rows=20000, Columns=20000)
    assert refused(content, Limits()).reason == "too-large"
    assert refused(dicom(FOUR), Limits()).reason == "too-small"
    assert refused(dicom(FOUR, Rows=0)).reason == "too-small"


def test_inflated_size_is_checked() -> None:
    dataset = elements(FOUR)
    dataset.add_new(0x00091010, "OB", bytes(5_000_000))
    content = written(dataset, DEFLATED)
    assert len(content) < 20_000
    assert refused(content, Limits(max_bytes=1_000_000, min_side=1)).reason == "too-large"


def test_deflated_with_a_header_of_zlib_is_read() -> None:
    content = dicom(FOUR, DEFLATED)
    length = struct.unpack_from("<I", content, 140)[0]  # of the group of the file meta information
    start = 144 + length
    plain = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    image = decode_dicom(content[:start] + zlib.compress(plain), "a.dcm", TINY)
    assert [*np.asarray(image.pixels).ravel()] == [0, 85, 170, 255]


def test_contradictions_in_the_header_are_refused() -> None:
    for tags in ({"BitsStored": 20}, {"HighBit": 3, "BitsStored": 12}, {"SamplesPerPixel": 3}):
        assert refused(dicom(FOUR, **tags)).reason == "not-an-image"


def test_web_page_and_other_files_are_not_dicom() -> None:
    for content in (
        b"<!DOCTYPE html><html>" * 50,
        b"\x89PNG\r\n\x1a\n" + bytes(500),
        bytes(500),
        b"II*\0" * 99,
    ):
        assert not is_dicom(content)
    assert refused(b"<!DOCTYPE html><html>" * 50).reason in ("not-an-image", "truncated")
