"""The image that a result is of: its file read again, and of its header what our objects repeat."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from worker.errors import ImageError, StorageError, XraycamError
from worker.file_names import printable, unescape_path
from worker.images.archive import read_member, split_member_path
from worker.images.dicom import is_dicom
from worker.images.dicom_display import for_viewing
from worker.images.dicom_header import DEFLATED, Header, read_header
from worker.images.limits import Limits
from worker.images.remote_archive import remote_source
from worker.remote.folder import RemoteFolder
from worker.safe_files import open_beneath

# All that is copied: what says whose object it is and to which study it belongs.
_TEXTS = (
    "PatientID", "IssuerOfPatientID", "PatientName", "AccessionNumber", "StudyID", "ReferringPhysicianName",
    "StudyDescription", "PatientAge", "PatientIdentityRemoved", "DeidentificationMethod",
)  # fmt: skip
ALWAYS = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
_DATES, _TIMES = ("PatientBirthDate", "StudyDate"), ("StudyTime",)
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
_PATTERN = {
    "PatientAge": r"[0-9]{3}[DWMY]",
    "PatientIdentityRemoved": r"YES|NO",
    "TimezoneOffsetFromUTC": r"[+-][0-9]{4}",
}
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_TIME = re.compile(r"([01][0-9]|2[0-3])([0-5][0-9]([0-5][0-9](\.[0-9]{1,6})?)?)?")


class ExportError(XraycamError):
    """Raised when the result of one image cannot become a DICOM object; `reason` is a word to count by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Source:
    """`identity`: patient, study and UIDs of the image, as valid DICOM in UTF-8; written into our objects and
    nowhere else. `is_as_stored`: whether it was explained in the geometry of the stored pixels.
    `orientation`: of the picture as it was explained, None where it is not known.
    `lossy`: whether its pixels ever were compressed with loss. `burned_in`: whether text is in the picture.
    """

    identity: Dataset = field(repr=False)
    rows: int
    columns: int
    is_as_stored: bool
    orientation: tuple[str, str] | None
    lossy: bool
    burned_in: bool
    time_offset: str | None

    @property
    def uid(self) -> str:
        return str(self.identity.SOPInstanceUID)

    @property
    def study_uid(self) -> str:
        return str(self.identity.StudyInstanceUID)

    @property
    def identity_digest(self) -> str:
        """SHA-256 of all that our objects repeat of patient and study: another patient, or another study, of
        the same image is another source."""
        told = sorted((element.keyword, str(element.value)) for element in self.identity)
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def local_time(self, moment: datetime) -> datetime:
        """`moment` in the time zone that the source's times are in: its own, or that of this machine."""
        aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        if self.time_offset is None:
            return aware.astimezone()
        sign = -1 if self.time_offset[0] == "-" else 1
        offset = timedelta(hours=int(self.time_offset[1:3]), minutes=int(self.time_offset[3:5]))
        return aware.astimezone(timezone(sign * offset))


def read_source(root: Path | RemoteFolder, path: str, sha256: str | None, limits: Limits) -> Source | None:
    """What the header of the image `path` (as in the ledger) below `root` says; None if it is not DICOM.

    `sha256`: of the file as it was explained. Raises ExportError: `unreadable-source` for a file that is gone
    or cannot be read, `changed-source` for one that is another by now, `no-study` without the UIDs that tie
    our objects to it.
    """
    shown = printable(path)
    content = _content(root, path, shown, limits)
    if not is_dicom(content):
        return None
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ExportError(
            "changed-source", f"{shown} was changed since it was explained; run its folder again, then export"
        )
    try:
        header = read_header(content, shown, limits)
        return _source(header, content, shown, limits)
    except ImageError as error:
        raise ExportError("unreadable-source", str(error)) from error
    except ExportError:
        raise
    except Exception as error:  # whose text may quote the header
        raise ExportError(
            "unreadable-source", f"{shown} has a header that cannot be read ({type(error).__name__})"
        ) from None


def _content(root: Path | RemoteFolder, path: str, shown: str, limits: Limits) -> bytes:
    try:
        if isinstance(root, RemoteFolder):
            return remote_source(root, path).read(limits.max_bytes)
        real = Path(os.path.realpath(root))
        inside = split_member_path(path, real)
        if inside is not None:
            archive, member = inside
            descriptor = open_beneath(real / archive, real)
            try:
                return read_member(descriptor, member, shown, limits)
            finally:
                os.close(descriptor)
        file = Path(os.path.realpath(real / unescape_path(str(real), path)))
        with os.fdopen(open_beneath(file, real), "rb") as stream:
            content = stream.read(limits.max_bytes + 1)
    except (ImageError, StorageError) as error:
        raise ExportError("unreadable-source", str(error)) from error
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise ExportError(
            "unreadable-source",
            f"{shown} cannot be read any more: {cause}; restore it in {printable(root)}, then export again",
        ) from error
    if len(content) > limits.max_bytes:
        raise ExportError("unreadable-source", f"{shown} has more than {limits.max_bytes:,} bytes, the limit")
    return content


def _source(header: Header, content: bytes, shown: str, limits: Limits) -> Source:
    elements = header.elements
    # Our own reader gives bytes; names in many alphabets are what pydicom is for.
    wanted = [*_TEXTS, *_DATES, *_TIMES, "PatientSex", "SpecificCharacterSet", "TimezoneOffsetFromUTC"]
    stream = io.BytesIO(header.content if header.transfer_syntax == DEFLATED else content)
    if header.transfer_syntax == DEFLATED:
        from pydicom.filereader import read_dataset

        found = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag > 0x00400000)
    else:
        found = dcmread(stream, force=True, stop_before_pixels=True, specific_tags=list(wanted))
    found.decode()
    identity = Dataset()
    identity.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _TEXTS:
        text = _text(found, keyword)
        if text and re.fullmatch(_PATTERN.get(keyword, ".*"), text):
            setattr(identity, keyword, text)
    if "DeidentificationMethod" not in identity and "PatientIdentityRemoved" in identity:
        del identity.PatientIdentityRemoved
    for keyword in _DATES:
        setattr(identity, keyword, _date(_text(found, keyword)))
    for keyword in _TIMES:
        setattr(identity, keyword, _time(_text(found, keyword)))
    sex = _text(found, "PatientSex").upper()
    identity.PatientSex = sex if sex in ("M", "F", "O") else ""
    for keyword in ALWAYS:
        if keyword not in identity:
            setattr(identity, keyword, "")
    for keyword in _UIDS:
        uid = elements.text(keyword) or (header.sop_class if keyword == "SOPClassUID" else "")
        if not _UID.fullmatch(uid) or len(uid) > 64:
            raise ExportError(
                "no-study",
                f"{shown} has no valid {keyword}: its results cannot be filed beside it; export it anew from "
                "its PACS",
            )
        setattr(identity, keyword, uid)
    offset = _text(found, "TimezoneOffsetFromUTC")
    if not re.fullmatch(_PATTERN["TimezoneOffsetFromUTC"], offset):
        offset = ""
    rows, columns = elements.integer("Rows") or 0, elements.integer("Columns") or 0
    _, changes = for_viewing(header, Image.new("L", (16, 16)), shown, limits)
    directions = [text[:1].upper() for text in elements.texts("PatientOrientation")]
    known = len(directions) == 2 and set(directions) <= set("LRHF") and directions[0] != directions[1]
    return Source(
        identity=identity,
        rows=rows,
        columns=columns,
        is_as_stored=not changes,
        orientation=("L", "F") if known else None,
        lossy=elements.text("LossyImageCompression") == "01" or header.transfer_syntax in _LOSSY,
        burned_in=elements.text("BurnedInAnnotation").upper() == "YES",
        time_offset=offset or None,
    )


# JPEG baseline and extended, JPEG-LS near-lossless, JPEG 2000 (of which only the header says more), HTJ2K.
_LOSSY = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91, 203)}


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if value is None:
        return ""
    if not isinstance(value, str) and hasattr(value, "__iter__") and not hasattr(value, "components"):
        value = next(iter(value), "")
    return "".join(letter for letter in str(value) if letter.isprintable()).strip()


def _date(text: str) -> str:
    """A date as DICOM writes it, also from the form of ACR-NEMA (1995.06.26); empty if it is none."""
    digits = re.sub(r"[.\-/]", "", text)
    try:
        datetime.strptime(digits, "%Y%m%d")
    except ValueError:
        return ""
    return digits if len(digits) == 8 else ""


def _time(text: str) -> str:
    digits = text.replace(":", "")
    return digits if _TIME.fullmatch(digits) else ""
