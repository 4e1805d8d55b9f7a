"""Our own captures and reports among what a PACS sends: they are no sources."""

from __future__ import annotations

from worker.dicom_results.equipment import is_own
from worker.errors import ImageError
from worker.images.dicom_header import read_header
from worker.images.limits import Limits


def is_own_file(content: bytes) -> bool:
    """Whether a DICOM file says that we made it; false for one whose header cannot be read."""
    try:
        elements = read_header(content, "it", Limits(max_bytes=len(content) + 1)).elements
    except ImageError:
        return False
    return is_own(elements.text("Manufacturer"), elements.printable("SeriesDescription") or "")
