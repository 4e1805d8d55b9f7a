"""What can be wrong with a request, as exceptions whose text a person can act on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.images.dicom import DicomFacts


class XraycamError(Exception):
    """Base of every error whose message is meant for the user, whole and in one line."""

    exit_status = 2


class ImageError(XraycamError):
    """Raised when one file cannot be explained; the run continues without it.

    `reason` is a stable word to count and to retry by: `empty`, `truncated`, `not-an-image`,
    `too-small`, `too-large`, `no-contrast`, `multi-frame`, `unsupported`, `missing`, `unreadable`,
    `outside-root`, `write-failed`; of DICOM also `not-radiograph`, `not-chest`, `not-frontal`,
    `for-processing`, `no-pixels`. `dicom`: what the header says of a DICOM file whose header could be read.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.dicom: DicomFacts | None = None


class StorageError(XraycamError):
    """Raised when a whole folder cannot be read or written now; the work waits, and is done later."""


class ModelError(XraycamError):
    """Raised when a model folder is missing, damaged or does not fit what is asked of it."""
