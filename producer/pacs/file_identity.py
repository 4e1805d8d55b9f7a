"""What a file from a PACS says of itself: which image it is, and whether it is one of our own results."""

from __future__ import annotations

from dataclasses import dataclass, field

from worker.dicom_results.equipment import is_own
from worker.errors import ImageError
from worker.images.dicom_header import read_header
from worker.images.limits import Limits


@dataclass(frozen=True)
class FileIdentity:
    """UIDs of a DICOM file, empty where its header cannot be read. `is_own`: we made it: it is no source."""

    study: str = field(default="", repr=False)
    instance: str = field(default="", repr=False)
    is_own: bool = False


def identify(content: bytes) -> FileIdentity:
    """What the header of the DICOM file `content` says."""
    try:
        elements = read_header(content, "it", Limits(max_bytes=len(content) + 1)).elements
    except ImageError:
        return FileIdentity()
    return FileIdentity(
        elements.text("StudyInstanceUID"),
        elements.text("SOPInstanceUID"),
        is_own(elements.text("Manufacturer"), elements.printable("SeriesDescription") or ""),
    )
