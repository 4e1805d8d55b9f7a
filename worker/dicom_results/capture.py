"""The secondary capture: an overlay with its caption, as a colour image beside its source."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from worker.dicom_results.common import Made, add_reference_to_source, finish
from worker.dicom_results.equipment import MANUFACTURER, series_description, software_version
from worker.dicom_results.result import Result
from worker.dicom_results.source import ExportError, Source
from worker.errors import XraycamError
from worker.file_names import printable
from worker.remote.folder import RemotePath

SERIES_NUMBER = 9801
_INK, _PAPER = (255, 255, 255), (0, 0, 0)
_LARGEST = 65_535  # of rows and columns, which are unsigned and of 16 bits
_SMALLEST_LETTERS = 10
_LARGEST_OVERLAY = 500_000_000  # bytes of a file
# A picture made narrower than this has no room for words.
_CAPTION_WIDTH = 360


def read_overlay(file: Path | RemotePath) -> bytes:
    """The content of an overlay. Raises ExportError `no-overlay` where it is gone."""
    try:
        return file.read(_LARGEST_OVERLAY) if isinstance(file, RemotePath) else file.read_bytes()
    except XraycamError as error:
        raise ExportError("no-overlay", str(error)) from error
    except OSError as error:
        raise ExportError(
            "no-overlay",
            f"{printable(file)} cannot be read: {error.strerror}; run its folder again with --force",
        ) from error


def make_capture(
    source: Source, result: Result, uids: tuple[str, str], overlay: bytes, lines: list[str], rle: bool
) -> Made:
    """The capture of `overlay` (content of a JPEG, PNG or WebP file) with `uids` of series and instance, and
    with a caption of `lines` below where there are any.

    RGB, one byte a sample, uncompressed or run-length coded. Raises ExportError `no-overlay` for a picture
    that cannot be read.
    """
    from highdicom.sc import SCImage

    try:
        opened = Image.open(io.BytesIO(overlay))
        encoding, picture = opened.format, opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ExportError("no-overlay", f"its overlay cannot be read ({type(error).__name__})") from error
    whole = captioned(picture, lines) if lines else picture
    if max(whole.size) > _LARGEST:
        raise ExportError(
            "too-large", f"an overlay of {whole.width} x {whole.height} pixels is more than DICOM holds"
        )
    dataset = SCImage(
        pixel_array=np.asarray(whole),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=source.orientation or ("L", "F"),
        study_instance_uid=source.study_uid,
        series_instance_uid=uids[0],
        series_number=SERIES_NUMBER,
        sop_instance_uid=uids[1],
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=(software_version(), result.model_version),
        series_description=series_description("overlay", result.model_version),
        specific_character_set="ISO_IR 192",
        transfer_syntax_uid=RLELossless if rle else ExplicitVRLittleEndian,
    )
    if source.orientation is None:
        dataset.PatientOrientation = []
    dataset.Laterality = ""  # of a chest there is none, but a validator asks for it
    moment = source.local_time(result.finished_at)
    dataset.DateOfSecondaryCapture = moment.strftime("%Y%m%d")
    dataset.TimeOfSecondaryCapture = moment.strftime("%H%M%S")
    # Text is in the picture, for whoever filters by this: the caption, and what the source had.
    dataset.BurnedInAnnotation = "YES"
    dataset.RecognizableVisualFeatures = "NO"
    is_lossy = source.lossy or encoding in ("JPEG", "WEBP")
    dataset.LossyImageCompression = "01" if is_lossy else "00"
    if encoding == "JPEG":
        dataset.LossyImageCompressionRatio = f"{picture.width * picture.height * 3 / len(overlay):.1f}"
        dataset.LossyImageCompressionMethod = "ISO_10918_1"
    add_reference_to_source(dataset, source, result)
    return finish(dataset, source, result)


def captioned(picture: Image.Image, lines: list[str]) -> Image.Image:
    """`picture` (RGB) with `lines` in a black bar below it, in letters that fit its width."""
    width = max(picture.width, _CAPTION_WIDTH)
    font = ImageFont.load_default(max(_SMALLEST_LETTERS, round(width / 48)))
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    wrapped = [part for line in lines for part in _wrapped(draw, line, width - 8, font)]
    height = sum(font.getmetrics()) + 2 if isinstance(font, ImageFont.FreeTypeFont) else 14
    whole = Image.new("RGB", (width, picture.height + height * len(wrapped) + 8), _PAPER)
    whole.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(wrapped):
        draw.text((4, picture.height + 4 + number * height), line, fill=_INK, font=font)
    return whole


def _wrapped(draw: ImageDraw.ImageDraw, line: str, width: float, font: Any) -> list[str]:
    """`line` in parts no wider than `width` pixels, broken at spaces, or within a word that is too long."""
    parts, part = [], ""
    for word in line.split(" "):
        longer = f"{part} {word}" if part else word
        if draw.textlength(longer, font=font) <= width:
            part = longer
            continue
        if part:
            parts.append(part)
        while word and draw.textlength(word, font=font) > width:
            fits = next(
                n
                for n in range(len(word) - 1, 0, -1)
                if n == 1 or draw.textlength(word[:n], font=font) <= width
            )
            parts.append(word[:fits])
            word = word[fits:]
        part = word
    return [*parts, part] if part else parts
