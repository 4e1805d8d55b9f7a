"""Where the findings are, for images somebody has marked: polygons in a JSON file or a folder of masks.

No TensorFlow here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from worker.train.dataset import DatasetError, Labelled

_NAMES = ("regions*.json", "lesions*.json")


class Regions:
    """Marked areas by image. An image that nobody marked says nothing, unless all images of its class are
    without findings: see `of`."""

    def __init__(self, source: Path, dataset: Labelled) -> None:
        """`source`: a JSON object `{file name: {"regions": [{"points": [[x, y], ...]}, ...]}}`, in pixels of
        the image, or a folder of masks (0: nothing) with the images' names and any size.
        Raises DatasetError if it cannot be read or knows none of the images."""
        self.source = source
        self._dataset = dataset
        self._polygons = {} if source.is_dir() else _polygons(source)
        self._masks = {file.stem: file for file in sorted(source.iterdir())} if source.is_dir() else {}
        marked = [index for index in range(len(dataset)) if self._is_marked(index)]
        if not marked:
            raise DatasetError(f"{source} marks none of the images of {dataset.root}; file names must agree")
        self.images = len(marked)
        self._marked_labels = {dataset.labels[index] for index in marked}

    def of(self, index: int) -> Image.Image | None:
        """The marked area as mode L, 0 or 255, of the image's size; all 0 for an image of a class of which no
        image is marked (it has no findings); None if the image is of a marked class but not marked."""
        radiograph = self._dataset.radiograph(index)
        size = (radiograph.width, radiograph.height)
        file = self._dataset.files[index]
        if file.name in self._polygons:
            return _drawn(self._polygons[file.name], size)
        if file.stem in self._masks:
            with Image.open(self._masks[file.stem]) as mask:
                return mask.convert("L").resize(size).point(lambda value: 255 * (value > 0))
        return None if self._dataset.labels[index] in self._marked_labels else Image.new("L", size)

    @property
    def digest(self) -> str:
        """SHA-256 of what is marked: equal for equal marks."""
        whole = hashlib.sha256(json.dumps(self._polygons, sort_keys=True).encode())
        for file in self._masks.values():
            whole.update(file.name.encode() + file.read_bytes())
        return whole.hexdigest()

    def _is_marked(self, index: int) -> bool:
        file = self._dataset.files[index]
        return file.name in self._polygons or file.stem in self._masks


def find_regions(folder: Path) -> Path | None:
    """The file beside the class folders that marks findings (`regions*.json` or `lesions*.json`), if any."""
    found = sorted(file for pattern in _NAMES for file in folder.glob(pattern))
    return found[0] if found else None


def _polygons(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {
            name: [[(float(x), float(y)) for x, y in region["points"]] for region in entry["regions"]]
            for name, entry in content.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{file} does not hold regions ({type(error).__name__}: {error}); "
            'expected {"name.png": {"regions": [{"points": [[x, y], ...]}]}}'
        ) from error


def _drawn(polygons: list[list[tuple[float, float]]], size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size)
    draw = ImageDraw.Draw(mask)
    for points in polygons:
        if len(points) >= 3:
            draw.polygon(points, fill=255)
    return mask
