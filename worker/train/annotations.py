"""Where the findings are, for images of a labelled folder that somebody has annotated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from worker.errors import XraycamError
from worker.file_names import printable
from worker.images.masks import AnnotationMasks
from worker.train.dataset import DatasetError, LabelledDataset

_NAMES = ("regions*.json", "lesions*.json")


class FindingAnnotations:
    """Marked areas by image of a dataset. An image that nobody marked says nothing, unless all images of its
    class are without findings: see `of`."""

    def __init__(self, source: Path, dataset: LabelledDataset) -> None:
        """`source`: as for `AnnotationMasks`. Raises DatasetError if it cannot be read or knows none of the
        images."""
        self.source = source
        self._dataset = dataset
        try:
            self._areas = AnnotationMasks(source)
        except XraycamError as error:
            raise DatasetError(str(error)) from error
        marked = [index for index in range(len(dataset)) if self._areas.has_mask_for(dataset.files[index])]
        if not marked:
            raise DatasetError(f"{source} marks none of the images of {dataset.root}; file names must agree")
        self.images = len(marked)
        used = {name for index in marked for name in self._areas.names_for(dataset.files[index])}
        self.unmatched = len(self._areas.names - used)
        self._marked_labels = {label for index in marked for label in dataset.names_of(index)}

    def of(self, index: int) -> Image.Image | None:
        """The marked area as mode L, 0 or 255, of the image's size; all 0 for an image of a class of which no
        image is marked (it has no findings); None if the image is of a marked class but not marked."""
        radiograph, file = self._dataset.radiograph(index), self._dataset.files[index]
        size = (radiograph.width, radiograph.height)
        if self._areas.has_mask_for(file):
            return self._areas.of(file, size) or Image.new("L", size)
        may_have = set(self._dataset.names_of(index))
        if self._dataset.findings is not None:
            may_have |= {int(n) for n in np.flatnonzero(np.isnan(self._dataset.findings[index]))}
        return None if may_have & self._marked_labels else Image.new("L", size)

    @property
    def digest(self) -> str:
        """SHA-256 of what is marked: equal for equal marks."""
        return self._areas.digest


def find_annotations(folder: Path) -> Path | None:
    """The file beside the class folders that marks findings (`regions*.json` or `lesions*.json`), if any.

    Raises DatasetError where there are several: marks of all but one would be lost.
    """
    found = sorted(file for pattern in _NAMES for file in folder.glob(pattern))
    if len(found) > 1:
        names = " and ".join(printable(file.name) for file in found)
        raise DatasetError(
            f"{printable(folder)}: {names} mark areas, and only one file can; unite "
            "them, or move the others away"
        )
    return found[0] if found else None
