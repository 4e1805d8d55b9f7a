"""From the stored values of DICOM to gray, on numbers whose gray is worked out by hand."""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
import pytest

from tests.support.made_dicom import (
    EXPLICIT,
    FOUR,
    JPEG_LS,
    TINY,
    decode,
    dicom,
    gray,
    lut,
    picture,
    refused,
)
from worker.images.dicom import decode_dicom

# From stored values to gray


def test_linear_window_is_that_of_the_standard() -> None:
    # ((x - 149.5) / 200 + 0.5) * 255, cut off: 100 -> 64.4, 200 -> 191.9
    assert gray(FOUR, WindowCenter=150, WindowWidth=201) == [0, 64, 191, 255]


def test_exact_linear_window_has_no_half_values() -> None:
    # ((x - 150) / 200 + 0.5) * 255: 100 -> 63.75, 200 -> 191.25
    found = gray(FOUR, WindowCenter=150, WindowWidth=200, VOILUTFunction="LINEAR_EXACT")
    assert found == [0, 63, 191, 255]


def test_sigmoid_window_is_that_of_the_standard() -> None:
    # 255 / (1 + exp(-4 (x - 150) / 200)): 12.09, 68.58, 186.4, 242.9
    found = gray(FOUR, WindowCenter=150, WindowWidth=200, VOILUTFunction="SIGMOID")
    assert found == [12, 68, 186, 242]


def test_of_several_windows_the_first_is_used() -> None:
    assert gray(FOUR, WindowCenter=[150, 50], WindowWidth=[201, 11]) == [0, 64, 191, 255]


def test_window_of_width_one_is_a_threshold() -> None:
    assert gray(FOUR, WindowCenter=150, WindowWidth=1) == [0, 0, 255, 255]


@pytest.mark.parametrize("width", [0, -5, 0.5])
def test_window_without_width_is_left_out_and_told(width: float) -> None:
    image = decode(FOUR, WindowCenter=150, WindowWidth=width)
    assert list(np.asarray(image.pixels).ravel()) == [0, 85, 170, 255]
    assert any("window" in note for note in image.facts.notes)


def test_without_a_window_the_values_used_span_the_gray() -> None:
    assert gray(FOUR + np.uint16(1000), BitsStored=12) == [0, 85, 170, 255]


def test_eight_bits_without_a_window_are_gray_already() -> None:
    assert gray(np.array([[3, 100], [200, 250]], np.uint8)) == [3, 100, 200, 250]


def test_eight_bits_stored_in_sixteen_are_gray_already() -> None:
    assert gray(np.array([[3, 100], [200, 250]], np.uint16), BitsStored=8) == [3, 100, 200, 250]


@pytest.mark.parametrize(
    ("values", "tags"),
    [
        (np.full((2, 2), 700, np.uint16), {}),
        (FOUR, {"WindowCenter": 60000, "WindowWidth": 100}),
        (FOUR, {"WindowCenter": 60000, "WindowWidth": 100, "PhotometricInterpretation": "MONOCHROME1"}),
        (FOUR, {"VOILUTSequence": [lut([0] * 300, 0, 8)]}),
    ],
    ids=["constant", "window-above", "window-above-inverted", "empty-lut"],
)
def test_picture_of_one_gray_is_refused_with_its_facts(values: Any, tags: dict[str, Any]) -> None:
    error = refused(dicom(values, **tags, ViewPosition="PA"))
    assert error.reason == "no-contrast"
    assert error.dicom is not None
    assert error.dicom.view == "PA"


def test_window_that_is_no_number_is_left_out_and_told() -> None:
    content = dicom(FOUR, WindowCenter="150", WindowWidth="20123")
    image = decode_dicom(content.replace(b"20123", b"20x23"), "a.dcm", TINY)
    assert list(np.asarray(image.pixels).ravel()) == [0, 85, 170, 255]
    assert any("no number" in note for note in image.facts.notes)


def test_rescale_goes_before_the_window() -> None:
    # 2x - 100: -100, 100, 300, 500
    found = gray(FOUR, RescaleSlope=2, RescaleIntercept=-100, WindowCenter=150, WindowWidth=201)
    assert found == [0, 64, 255, 255]


def test_rescale_may_invert() -> None:
    assert gray(FOUR, RescaleSlope=-1, RescaleIntercept=300) == [255, 170, 85, 0]


def test_rescale_that_is_no_number_is_refused() -> None:
    assert refused(dicom(FOUR, RescaleSlope="0", RescaleIntercept="0")).reason == "unsupported"


def test_modality_lut_goes_before_the_window() -> None:
    values = np.array([[0, 1], [2, 9]], np.uint16)
    found = gray(
        values,
        BitsStored=12,
        ModalityLUTSequence=[lut([50, 100, 200, 300], 0, 16)],
        WindowCenter=150,
        WindowWidth=201,
    )
    assert found == [0, 64, 191, 255]  # 9 lies beyond the table: its last entry


def test_voi_lut_goes_before_a_window_beside_it() -> None:
    # Of 10 bits: 1023 is white.
    sequence = [lut([0, 1023, 512, 256], 100, 10)]
    values = np.array([[99, 100], [101, 200]], np.uint16)
    found = gray(values, VOILUTSequence=sequence, WindowCenter=150, WindowWidth=201)
    assert found == [0, 0, 255, 63]


def test_voi_lut_may_begin_below_zero() -> None:
    values = np.array([[-3, -2], [-1, 0]], np.int16)
    assert gray(values, VOILUTSequence=[lut([0, 100, 200, 255], -3, 8)]) == [0, 100, 200, 255]


def test_voi_lut_of_zero_entries_has_65536() -> None:
    entries = [value // 4 for value in range(65536)]
    found = gray(np.array([[0, 16384], [32768, 65535]], np.uint16), VOILUTSequence=[lut(entries, 0, 14)])
    assert found == [0, 63, 127, 255]


@pytest.mark.parametrize("declared", [10, 12, 16])
def test_voi_lut_is_scaled_by_the_bits_that_it_holds(declared: int) -> None:
    values = np.array([[0, 1024], [2048, 4095]], np.uint16)
    image = decode(values, VOILUTSequence=[lut(list(range(4096)), 0, declared)])
    assert list(np.asarray(image.pixels).ravel()) == [0, 63, 127, 255]
    assert image.facts.rendering == "VOI LUT of 4096 entries, 12 bits"
    told = (
        [] if declared == 12 else [f"its VOI LUT says {declared} bits and holds 12: scaled by those it holds"]
    )
    assert list(image.facts.notes) == told


def test_a_voi_lut_that_ends_below_its_full_scale_stays_as_dark_as_it_is() -> None:
    values = np.array([[0, 1024], [2048, 4095]], np.uint16)
    entries = [value // 2 for value in range(4096)]  # up to 2047 of 12 bits
    image = decode(values, VOILUTSequence=[lut(entries, 0, 12)])
    assert list(np.asarray(image.pixels).ravel()) == [0, 31, 63, 127]
    assert not image.facts.notes


def test_voi_lut_of_eight_bit_entries_is_read() -> None:
    made = lut([0] * 2, 0, 8)
    made.LUTDescriptor = [4, 0, 8]
    made["LUTData"].VR = "OW"
    made.LUTData = bytes([0, 50, 100, 255])
    assert gray(np.array([[0, 1], [2, 3]], np.uint16), VOILUTSequence=[made]) == [0, 50, 100, 255]


def test_voi_lut_that_is_too_short_is_left_out_and_told() -> None:
    made = lut([0, 255], 0, 8)
    made.LUTDescriptor = [300, 0, 8]
    image = decode(FOUR, VOILUTSequence=[made], WindowCenter=150, WindowWidth=201)
    assert list(np.asarray(image.pixels).ravel()) == [0, 64, 191, 255]
    assert any("VOI LUT" in note for note in image.facts.notes)


def test_monochrome1_is_inverted_last() -> None:
    # 255 - 64.4 and 255 - 191.9, cut off
    found = gray(FOUR, WindowCenter=150, WindowWidth=201, PhotometricInterpretation="MONOCHROME1")
    assert found == [255, 190, 63, 0]


def test_missing_photometric_interpretation_is_told() -> None:
    image = decode(FOUR, PhotometricInterpretation=None)
    assert any("MONOCHROME2" in note for note in image.facts.notes)


@pytest.mark.parametrize(
    ("photometric", "shape", "is_told"),
    [
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", False),
        ("MONOCHROME2", "IDENTITY", False),
    ],
)
def test_a_shape_that_contradicts_the_photometric_interpretation_is_told(
    photometric: str, shape: str, is_told: bool
) -> None:
    image = decode(FOUR, PhotometricInterpretation=photometric, PresentationLUTShape=shape)
    assert any("PresentationLUTShape" in note for note in image.facts.notes) == is_told
    assert list(np.asarray(image.pixels).ravel()) == gray(FOUR, PhotometricInterpretation=photometric)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_not_in_the_range(photometric: str) -> None:
    values = np.array([[0, 100], [200, 150]], np.uint16)
    found = gray(values, PixelPaddingValue=0, PhotometricInterpretation=photometric)
    assert found == ([0, 0, 255, 127] if photometric == "MONOCHROME2" else [0, 255, 0, 127])


def test_range_of_padding_is_black() -> None:
    values = np.array([[4000, 4050], [4090, 100], [200, 150]], np.uint16)
    for first, last in ((4000, 4095), (4095, 4000)):
        found = gray(values, BitsStored=12, PixelPaddingValue=first, PixelPaddingRangeLimit=last)
        assert found == [0, 0, 0, 0, 255, 127]


def test_signed_padding_is_black() -> None:
    values = np.array([[-2000, -1000], [0, 1000]], np.int16)
    assert gray(values, PixelPaddingValue=-2000) == [0, 0, 127, 255]


def test_padding_above_the_bits_stored_is_black() -> None:
    values = np.array([[65535, 0], [2048, 4095]], np.uint16)
    assert gray(values, BitsStored=12, PixelPaddingValue=65535) == [0, 0, 127, 255]


def test_nothing_but_padding_is_no_picture() -> None:
    content = dicom(np.zeros((2, 2), np.uint16), PixelPaddingValue=0)
    assert refused(content).reason == "no-pixels"


def test_signed_values_are_signed() -> None:
    values = np.array([[-100, -50], [0, 100]], np.int16)
    assert gray(values) == [0, 63, 127, 255]


def test_signed_values_of_twelve_bits_are_signed() -> None:
    values = np.array([[-100, -50], [0, 100]], np.int16)
    packed = (values.view(np.uint16) & 0x0FFF).astype(np.uint16)  # without the sign's upper bits
    assert gray(packed, BitsStored=12, PixelRepresentation=1) == [0, 63, 127, 255]


def test_bits_above_the_highest_are_left_out() -> None:
    values = np.array([[0xF000, 0x8000 | 1000], [2000, 0x1000 | 4000]], np.uint16)
    assert gray(values, BitsStored=12) == [0, 63, 127, 255]


@pytest.mark.parametrize("is_signed", [False, True])
@pytest.mark.parametrize("syntax", [EXPLICIT, JPEG_LS])
def test_a_picture_that_takes_more_bits_than_its_header_says_is_not_wrapped(
    syntax: str, is_signed: bool
) -> None:
    values = picture(bits=14)
    tags = {"WindowCenter": 8192, "WindowWidth": 16384, "PixelRepresentation": int(is_signed)}
    frames = [bytes(imagecodecs.jpegls_encode(values))] if syntax == JPEG_LS else None
    image = decode(values, syntax, frames=frames, BitsStored=12, **tags)
    assert list(np.asarray(image.pixels).ravel()) == gray(values, BitsStored=16, **tags)
    assert any("12 bits, its values take 1" in note for note in image.facts.notes)


def test_letters_and_padding_above_the_bits_stored_leave_the_picture_as_it_is() -> None:
    values = picture(bits=12)
    drawn = values.copy()
    drawn[20:30, 10:60:3] |= 0x1000
    drawn[:, :5] |= 0xF000
    image = decode(drawn, BitsStored=12, WindowCenter=2048, WindowWidth=4096)
    expected = gray(values, BitsStored=12, WindowCenter=2048, WindowWidth=4096)
    assert list(np.asarray(image.pixels).ravel()) == expected
    assert image.facts.notes == ()


def test_bits_below_those_stored_are_left_out() -> None:
    values = (np.array([[0, 1000], [2000, 4000]], np.uint16) << 4) | np.uint16(7)
    assert gray(values, BitsStored=12, HighBit=15) == [0, 63, 127, 255]


# Colour


def test_colour_becomes_luma() -> None:
    colours = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [90, 90, 90]]], np.uint8)
    assert gray(colours) == [76, 150, 29, 90]
    planes = np.ascontiguousarray(colours.transpose(2, 0, 1))
    assert gray(colours, pixels=planes.tobytes(), PlanarConfiguration=1) == [76, 150, 29, 90]


def test_luma_of_ybr_is_its_first_sample() -> None:
    colours = np.array([[[10, 0, 0], [20, 255, 0]], [[30, 0, 255], [40, 90, 90]]], np.uint8)
    assert gray(colours, PhotometricInterpretation="YBR_FULL") == [10, 20, 30, 40]
    halved = bytes([10, 20, 128, 128, 30, 40, 128, 128])
    assert gray(colours, pixels=halved, PhotometricInterpretation="YBR_FULL_422") == [10, 20, 30, 40]


def test_colour_of_sixteen_bits_keeps_its_upper_eight() -> None:
    colours = np.array([[[0x1234] * 3, [0xFF00] * 3], [[0] * 3, [0x8000] * 3]], np.uint16)
    assert gray(colours) == [0x12, 0xFF, 0, 0x80]
    assert gray(colours, BitsStored=12, HighBit=15) == [0x12, 0xFF, 0, 0x80]
    assert gray(colours >> 2, BitsStored=12, HighBit=13) == [0x12, 0xFF, 0, 0x80]


def test_palette_becomes_luma() -> None:
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, entries in (("Red", [0, 65535, 0]), ("Green", [0, 0, 65535]), ("Blue", [0, 0, 0])):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = struct.pack("<3H", *entries)
    assert gray(np.array([[0, 1], [2, 7]], np.uint8), **tags) == [0, 76, 150, 150]


def test_a_dark_colour_of_a_palette_stays_dark() -> None:
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, entries in (("Red", [0, 65535, 0]), ("Green", [0, 0, 200]), ("Blue", [0, 0, 0])):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = struct.pack("<3H", *entries)
    assert gray(np.array([[0, 1, 2]], np.uint8), **tags) == [0, 76, 0]


# The picture as it is looked at


def test_pixels_that_are_not_square_are_made_so() -> None:
    values = picture(40, 80)
    for tags in (
        {"PixelAspectRatio": [2, 1]},
        {"ImagerPixelSpacing": [0.4, 0.2]},
        {"PixelSpacing": [1, 0.5]},
    ):
        image = decode(values, **tags)
        assert image.size == (80, 80)
        assert image.facts.notes
    assert decode(values, PixelAspectRatio=[1, 2]).size == (160, 40)
    assert decode(values, PixelAspectRatio=[1, 1], PixelSpacing=[0.143, 0.1431]).size == (80, 40)


@pytest.mark.parametrize(("aspect", "spacing"), [([1, 1], [0.2, 0.1]), ([4, 1], [0.2, 0.1])])
def test_a_spacing_goes_before_an_aspect_ratio_that_contradicts_it(
    aspect: list[int], spacing: list[float]
) -> None:
    image = decode(picture(40, 80), PixelAspectRatio=aspect, ImagerPixelSpacing=spacing)
    assert image.size == (80, 80)
    assert any("contradicts its spacing" in note for note in image.facts.notes)
    agreeing = decode(picture(40, 80), PixelAspectRatio=[2, 1], ImagerPixelSpacing=spacing)
    assert len(agreeing.facts.notes) == 1


def test_of_several_voi_luts_the_first_that_can_be_read_is_used() -> None:
    short = lut([0, 1], 0, 8)
    short.LUTDescriptor = [300, 0, 8]
    whole = lut([255 - number * 255 // 300 for number in range(301)], 0, 8)
    assert gray(FOUR, VOILUTSequence=[short, whole]) == gray(FOUR, VOILUTSequence=[whole])


def test_spacing_of_zero_says_nothing() -> None:
    assert decode(FOUR, PixelSpacing=[0, 0]).size == (2, 2)
    assert decode(FOUR, PixelSpacing=["0.000", "0.200"]).size == (2, 2)


def test_pixels_of_no_detector_are_refused() -> None:
    assert refused(dicom(picture(), PixelAspectRatio=[100, 1])).reason == "unsupported"


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (["L", "F"], [0, 85, 170, 255]),
        (["R", "F"], [85, 0, 255, 170]),
        (["L", "H"], [170, 255, 0, 85]),
        (["R", "H"], [255, 170, 85, 0]),
        (["F", "L"], [0, 170, 85, 255]),
        (["F", "R"], [170, 0, 255, 85]),
        (["H", "L"], [85, 255, 0, 170]),
        (["LH", "FL"], [0, 85, 170, 255]),
        (["", ""], [0, 85, 170, 255]),
        (["L"], [0, 85, 170, 255]),
        (["X", "Y"], [0, 85, 170, 255]),
    ],
)
def test_picture_is_turned_to_how_a_chest_is_looked_at(orientation: list[str], expected: list[int]) -> None:
    image = decode(FOUR, PatientOrientation=orientation)
    assert [*np.asarray(image.pixels).ravel()] == expected
    assert bool(image.facts.notes) == (expected != [0, 85, 170, 255])
