"""DICOM files: recognised by content, checked for being frontal chest radiographs, decoded to 8-bit gray."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from worker.errors import ImageError
from worker.images.limits import pixel_budget

if TYPE_CHECKING:
    from PIL import Image

    from worker.images.dicom_header import Elements, Header
    from worker.images.limits import Limits

# What `accept` can widen; `any-view` includes `lateral`.
ACCEPTABLE = ("lateral", "any-view", "any-body-part", "for-processing", "multi-frame")

_FIRST_GROUPS = (0x0002, 0x0008)
# What names the patient, those who made the image, or those who asked for it.
_NAMES = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "OperatorsName",
    "ReferringPhysicianName", "PerformingPhysicianName", "PhysiciansOfRecord",
    "NameOfPhysiciansReadingStudy", "RequestingPhysician",
)  # fmt: skip
_NUMBERS = (
    "PatientID", "OtherPatientIDs", "PatientBirthDate", "AccessionNumber", "PatientAddress",
    "PatientTelephoneNumbers",
)  # fmt: skip


@dataclass(frozen=True)
class DicomFacts:
    """What the header says and what was done to the pixels.

    `view`: `PA`, `AP`, `frontal`, `lateral`, `oblique`, `decubitus`, `other` or None where it is not said.
    `burned_in_annotation`: `yes`, `no` or `unknown`. `rendering`: how stored values became gray, such as
    `window 550/1024`. `notes`: what else a reader of the result must know, such as a flip. Of a file that
    was refused, `photometric`, `bits_stored` and `rendering` are None.
    Identifiers are as in the file, to be hashed by the caller and never shown, logged or stored: they, age
    and sex are left out of `repr`.
    """

    view: str | None
    manufacturer: str | None
    model: str | None
    transfer_syntax: str
    photometric: str | None
    bits_stored: int | None
    rendering: str | None
    burned_in_annotation: str
    notes: tuple[str, ...] = ()
    patient_id: str | None = field(default=None, repr=False)
    patient_issuer: str | None = field(default=None, repr=False)
    study_uid: str | None = field(default=None, repr=False)
    series_uid: str | None = field(default=None, repr=False)
    instance_uid: str | None = field(default=None, repr=False)
    age: str | None = field(default=None, repr=False)
    sex: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class DicomImage:
    """`pixels`: mode L, upright, not mirrored, of square pixels, black where air or padding is.
    `size`: its (width, height)."""

    pixels: Image.Image
    size: tuple[int, int]
    facts: DicomFacts


def is_dicom(content: bytes) -> bool:
    """Whether `content`, of which the first kilobyte is enough, is DICOM: by the mark after the preamble or,
    in old files without one, by beginning with two data elements in ascending order of which the first is of
    group 2 or 8 (PS3.5, section 7.1).
    """
    if content[128:132] == b"DICM":
        return True
    return _begins_with_elements(content, "<") or _begins_with_elements(content, ">")


def decode_dicom(
    content: bytes, shown: str, limits: Limits, accept: frozenset[str] = frozenset()
) -> DicomImage:
    """Decode the DICOM file `content` to 8-bit gray, if it is a frontal chest radiograph.

    `shown` is the name of the file in messages. `accept` names what is let in beyond that, see ACCEPTABLE;
    with `multi-frame`, the first frame is taken. Tags that are missing are not held against a file.
    Stored values go through the modality LUT or rescale, the VOI LUT or window, and are inverted for
    MONOCHROME1 (PS3.3, C.11.1, C.11.2 and C.7.6.3.1.2); pixels that are not square are made square, and the
    picture is turned to how a chest is looked at where PatientOrientation says that it is not. A window that
    leaves nothing to be seen is refused as `no-contrast`, see `depth.require_contrast`.
    Raises ImageError and nothing else, with its `dicom` set where the header was read; no message holds a
    value of the header other than a code word.
    """
    # Imported here, for they take a tenth of a second that a program without DICOM files need not spend.
    from worker.images import dicom_checks, dicom_display, dicom_frames, dicom_header, dicom_rendering
    from worker.images.depth import require_contrast

    header: Header | None = None
    try:
        header = dicom_header.read_header(content, shown, limits)
        view = dicom_checks.require_frontal_chest(header, shown, accept)
        pixel_format = dicom_frames.read_format(header, shown, limits)
        with pixel_budget.taking(pixel_format.rows * pixel_format.columns):
            frame = dicom_frames.first_frame(header, pixel_format, shown, accept)
            gray, rendering, notes = dicom_rendering.render(header, pixel_format, frame, shown)
            pixels, display_notes = dicom_display.for_viewing(header, gray, shown, limits)
        facts = _facts(
            header,
            view,
            pixel_format.stored,
            pixel_format.photometric,
            rendering,
            (*notes, *display_notes),
        )
        require_contrast(pixels, shown)
    except ImageError as error:
        _with_facts(error, header)
        raise
    except MemoryError:
        large = ImageError("too-large", f"{shown} does not fit into memory; lower the limit on pixels")
        raise _with_facts(large, header) from None
    except Exception as error:  # whose text may quote the header
        damaged = ImageError(
            "not-an-image", f"{shown} is damaged DICOM and does not decode ({type(error).__name__})"
        )
        raise _with_facts(damaged, header) from None
    return DicomImage(pixels, pixels.size, facts)


def _with_facts(error: ImageError, header: Header | None) -> ImageError:
    """`error` with what the header of the refused file says, as far as that can be read."""
    from worker.images.dicom_checks import view_of

    if header is not None:
        with suppress(Exception):  # of damaged headers, many kinds, and `error` tells already
            error.dicom = _facts(header, view_of(header.elements), None, None, None, ())
    return error


def _facts(
    header: Header,
    view: str | None,
    bits_stored: int | None,
    photometric: str | None,
    rendering: str | None,
    notes: tuple[str, ...],
) -> DicomFacts:
    elements = header.elements
    burned_in = elements.text("BurnedInAnnotation").upper()
    return DicomFacts(
        view=view,
        manufacturer=_without_identity(elements, "Manufacturer"),
        model=_without_identity(elements, "ManufacturerModelName"),
        transfer_syntax=header.syntax_name,
        photometric=photometric,
        bits_stored=bits_stored,
        rendering=rendering,
        burned_in_annotation={"YES": "yes", "NO": "no"}.get(burned_in, "unknown"),
        notes=notes,
        patient_id=elements.identifier("PatientID"),
        patient_issuer=elements.identifier("IssuerOfPatientID"),
        study_uid=elements.text("StudyInstanceUID") or None,
        series_uid=elements.text("SeriesInstanceUID") or None,
        instance_uid=elements.text("SOPInstanceUID") or None,
        age=elements.text("PatientAge") or None,
        sex=elements.text("PatientSex") or None,
    )


def _without_identity(elements: Elements, keyword: str) -> str | None:
    """The value in 64 letters at most; None where it repeats a word of what identifies somebody, or the day
    of birth in whatever form."""
    value = elements.printable(keyword)
    if value is None:
        return None
    plain, digits = value.casefold(), re.sub(r"\D", "", value)
    # Two letters, as of Li or Wu, are in many a word; in scripts other than Latin they are a name.
    words = _words(elements, _NAMES, 2) | _words(elements, _NUMBERS, 3)
    own = set(re.findall(r"[^\W_]+", plain))
    repeats = any(word in own if len(word) == 2 and word.isascii() else word in plain for word in words)
    born = re.sub(r"\D", "", elements.text("PatientBirthDate"))
    if len(born) == 8:
        year, month, day = born[:4], born[4:6], born[6:]
        repeats |= any(date in digits for date in (born, day + month + year, month + day + year))
    return None if repeats else value


def _words(elements: Elements, keywords: tuple[str, ...], least: int) -> set[str]:
    """The words of so many letters, or more, in the elements."""
    return {
        word
        for keyword in keywords
        for reading in elements.readings(keyword)
        for word in re.findall(rf"[^\W_]{{{least},}}", reading.casefold())
    }


def _begins_with_elements(content: bytes, order: str) -> bool:
    first = _element(content, 0, order)
    if first is None or first[0][0] not in _FIRST_GROUPS:
        return False
    second = _element(content, first[1], order)
    return second is not None and first[0] < second[0] and second[0][0] <= 0x0010


def _element(content: bytes, start: int, order: str) -> tuple[tuple[int, int], int] | None:
    """Tag of the data element at `start`, and where the next one starts."""
    if start + 12 > len(content):
        return None
    group, element = struct.unpack_from(order + "HH", content, start)
    representation = content[start + 4 : start + 6]
    if not (representation.isalpha() and representation.isupper()):
        length = struct.unpack_from(order + "I", content, start + 4)[0]
        header = 8
    elif representation in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        length = struct.unpack_from(order + "I", content, start + 8)[0]
        header = 12
    else:
        length = struct.unpack_from(order + "H", content, start + 6)[0]
        header = 8
    return (group, element), start + header + length
