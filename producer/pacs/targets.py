"""From what follows `--output` to a place that takes DICOM objects."""

from __future__ import annotations

from pathlib import Path

from producer.pacs import dicomweb
from producer.pacs.folder_target import FolderTarget
from producer.pacs.outgoing import Target
from producer.pacs.store_target import SCHEMES, StoreTarget
from producer.pacs.stow_target import StowTarget
from worker.errors import XraycamError
from worker.settings import Settings


def open_target(given: str, settings: Settings) -> Target:
    """A folder, `dicomweb+https://HOST/PATH` or `dicom://AET@HOST:PORT`. Raises XraycamError for others."""
    if dicomweb.is_url(given):
        return StowTarget(given, settings)
    if given.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
        return StoreTarget(given, settings)
    if "://" in given:
        raise XraycamError(
            f"{given.partition('://')[0][:30]!a}:// is no place for DICOM objects; write a folder, "
            "dicomweb+https://HOST/dicom-web or dicom://AET@HOST:PORT"
        )
    return FolderTarget(Path(given))
