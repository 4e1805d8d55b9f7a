"""DICOM files made of a few numbers, and of pictures under every transfer syntax."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, generate_uid

from worker.errors import ImageError
from worker.images.dicom import DicomImage, decode_dicom, is_dicom
from worker.images.limits import Limits

IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
JPEG, JPEG_12, JPEG_LOSSLESS, JPEG_LS, JPEG_LS_NEAR, JPEG_2000, JPEG_2000_LOSSY, HTJ2K = (
    f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 70, 80, 81, 90, 91, 201)
)
RLE = "1.2.840.10008.1.2.5"
COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"

Values = np.ndarray[Any, np.dtype[Any]]


TINY = Limits(min_side=1)
FOUR = np.array([[0, 100], [200, 300]], np.uint16)


def picture(rows: int = 96, columns: int = 80, bits: int = 12) -> Values:
    """A smooth picture with noise, of `bits` bits: uint8 or uint16."""
    random = np.random.default_rng(5)
    y, x = np.mgrid[:rows, :columns]
    waves = 0.5 + 0.3 * np.sin(x / 9) * np.cos(y / 13) + random.normal(0, 0.02, (rows, columns))
    values = (np.clip(waves, 0, 1) * ((1 << bits) - 1)).round()
    return values.astype(np.uint8 if bits <= 8 else np.uint16)


def elements(values: Values, **tags: Any) -> Dataset:
    """A computed radiograph of `values`, (rows, columns) or (rows, columns, 3); `tags` by keyword, None to
    leave one out. The bits are all that the type of `values` has, unless tags say otherwise."""
    bits = values.dtype.itemsize * 8
    dataset = Dataset()
    given: dict[str, Any] = {
        "SOPClassUID": COMPUTED_RADIOGRAPHY,
        "SOPInstanceUID": generate_uid(entropy_srcs=["instance"]),
        "Modality": "CR",
        "BodyPartExamined": "CHEST",
        "Rows": values.shape[0],
        "Columns": values.shape[1],
        "SamplesPerPixel": 3 if values.ndim == 3 else 1,
        "PhotometricInterpretation": "RGB" if values.ndim == 3 else "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": tags.get("BitsStored", bits) - 1,
        "PixelRepresentation": int(values.dtype.kind == "i"),
        **({"PlanarConfiguration": 0} if values.ndim == 3 else {}),
        **tags,
    }
    for keyword, value in given.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def dicom(
    values: Values,
    syntax: str = EXPLICIT,
    pixels: bytes | None = None,
    frames: list[bytes] | None = None,
    headless: bool = False,
    **tags: Any,
) -> bytes:
    """The file of `elements(values, **tags)`. `pixels` instead of the bytes of `values`; `frames`, code
    streams to encapsulate; `headless` without preamble and file meta information."""
    dataset = elements(values, **tags)
    if frames is not None:
        dataset.PixelData = encapsulate(frames)
    elif pixels is None:
        dataset.PixelData = values.astype(values.dtype.newbyteorder("<>"[syntax == BIG_ENDIAN])).tobytes()
    elif pixels:
        dataset.PixelData = pixels
    if "PixelData" in dataset:
        dataset["PixelData"].VR = "OW" if frames is None and values.dtype.itemsize == 2 else "OB"
        dataset["PixelData"].is_undefined_length = frames is not None
    return written(dataset, syntax, headless)


def written(dataset: Dataset, syntax: str = EXPLICIT, headless: bool = False) -> bytes:
    """`dataset` as a file."""
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if headless:
            dataset.save_as(stream, implicit_vr=syntax == IMPLICIT, little_endian=True)
            return stream.getvalue()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", COMPUTED_RADIOGRAPHY)
        dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3")
        dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def code_stream(syntax: str, values: Values) -> bytes:
    """`values` compressed for `syntax`."""
    bits = 8 if values.dtype.itemsize == 1 else 12
    encoded = {
        JPEG: lambda: imagecodecs.jpeg8_encode(values, level=95),
        JPEG_12: lambda: imagecodecs.jpeg8_encode(values, level=95, bitspersample=12),
        JPEG_LOSSLESS: lambda: imagecodecs.jpeg8_encode(values, lossless=True, bitspersample=bits),
        JPEG_LS: lambda: imagecodecs.jpegls_encode(values),
        JPEG_LS_NEAR: lambda: imagecodecs.jpegls_encode(values, level=2),
        JPEG_2000: lambda: imagecodecs.jpeg2k_encode(values, codecformat="j2k", level=0, reversible=True),
        JPEG_2000_LOSSY: lambda: imagecodecs.jpeg2k_encode(values, codecformat="j2k", level=60),
        HTJ2K: lambda: imagecodecs.htj2k_encode(values),
        RLE: lambda: _run_lengths(values),
    }[syntax]()
    return bytes(encoded)


def jpeg_syntax(values: Values) -> str:
    """The lossy JPEG syntax that holds `values`."""
    return JPEG if values.dtype.itemsize == 1 else JPEG_12


def _run_lengths(values: Values) -> bytes:
    planes = values[..., None] if values.ndim == 2 else values
    segments = []
    for sample in range(planes.shape[2]):
        plane = planes[..., sample]
        for shift in range(8 * (plane.dtype.itemsize - 1), -1, -8):
            part = imagecodecs.packbits_encode((plane >> shift).astype(np.uint8).tobytes())
            segments.append(bytes(part) + b"\0" * (len(part) % 2))
    offsets = [64 + sum(len(part) for part in segments[:number]) for number in range(len(segments))]
    head = struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments)))
    return head + b"".join(segments)


def item(**tags: Any) -> Dataset:
    """The item of a sequence."""
    dataset = Dataset()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def lut(data: list[int], first: int, bits: int) -> Dataset:
    """The item of a modality or VOI LUT sequence."""
    made = item(LUTDescriptor=[len(data) % 65536, first, bits], LUTData=data)
    made["LUTDescriptor"].VR = "SS" if first < 0 else "US"
    made["LUTData"].VR = "US"
    return made


def gray(values: Values, syntax: str = EXPLICIT, **tags: Any) -> list[int]:
    """The gray of the file of `values` and `tags`, row by row."""
    image = decode(values, syntax, **tags)
    return [int(value) for value in np.asarray(image.pixels).ravel()]


def decode(values: Values, syntax: str = EXPLICIT, **tags: Any) -> DicomImage:
    """The file of `values` and `tags`, decoded."""
    content = dicom(values, syntax, **tags)
    assert is_dicom(content)
    return decode_dicom(content, "a.dcm", TINY)


def refused(content: bytes, limits: Limits = TINY, accept: frozenset[str] = frozenset()) -> ImageError:
    """The error that `content` is refused with."""
    with pytest.raises(ImageError) as caught:
        decode_dicom(content, "a.dcm", limits, accept)
    assert str(caught.value).isprintable()
    return caught.value
