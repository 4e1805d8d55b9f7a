"""DICOM files in a folder, one for each object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from producer.pacs.outgoing import TAKEN, Fate, Outgoing, refused
from producer.session import ensure_output_dir
from worker.errors import ImageError
from worker.safe_files import atomic_write_beneath, raise_if_target_unavailable


class FolderTarget:
    """Writes `UID.dcm`; the same object again is the same file. Folders are made as needed."""

    keeps = False

    def __init__(self, folder: Path) -> None:
        self._folder = ensure_output_dir(folder)
        self.name = str(self._folder)

    def send(self, objects: Sequence[Outgoing]) -> list[Fate]:
        """Raises StorageError when nothing can be written there."""
        return [self._write(item) for item in objects]

    def close(self) -> None:
        pass

    def _write(self, item: Outgoing) -> Fate:
        try:
            atomic_write_beneath(self._folder, self._folder / f"{item.uid}.dcm", item.content)
        except ImageError as error:
            return refused(str(error))
        except OSError as error:
            raise_if_target_unavailable(self._folder, error)
            return refused(f"cannot be written: {error.strerror}")
        return TAKEN
