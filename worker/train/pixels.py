"""Decoded images in memory, up to a limit. No TensorFlow here."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from worker.images.reader import Limits, Radiograph, read_radiograph


class Pixels:
    """Reads images and keeps them decoded while they fit; what does not fit is read again each time.

    Usable by several threads at once.
    """

    def __init__(self, limits: Limits, memory: int) -> None:
        """`memory`: bytes that decoded images may take together."""
        self._limits = limits
        self._left = memory
        self._kept: dict[Path, Radiograph] = {}
        self._lock = Lock()

    def read(self, file: Path) -> Radiograph:
        """Decode `file` and keep it if it fits. Raises ImageError for every file that is no good."""
        radiograph = read_radiograph(file, self._limits)
        size = radiograph.width * radiograph.height
        with self._lock:
            if file not in self._kept and size <= self._left:
                self._left -= size
                self._kept[file] = radiograph
        return radiograph

    def radiograph(self, file: Path) -> Radiograph:
        """`file` decoded, from memory where it is kept."""
        kept = self._kept.get(file)
        return self.read(file) if kept is None else kept
