"""Annotated areas of images, lungs or findings: polygons in a JSON file, or a folder of masks."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from worker.errors import ImageError, XraycamError
from worker.file_names import printable

Polygons = list[list[tuple[float, float]]]


class AnnotationMasks:
    """Areas by the name of the image, in whichever folder it lies."""

    def __init__(self, source: Path) -> None:
        """`source`: a JSON object `{file name: {"regions": [{"points": [[x, y], ...]}, ...]}}`, in pixels of
        the image; or a folder of masks (0: outside) of any size, each called as its image but for the
        suffix, or with `_mask` at the end. Raises XraycamError if it cannot be read or is empty."""
        self.source = source
        self._polygons: dict[str, Polygons] = {}
        self._masks: dict[str, Path] = {}
        if source.is_dir():
            files = sorted(file for file in source.rglob("*") if file.is_file() and file.name[0] != ".")
            self._masks = {file.stem.removesuffix("_mask"): file for file in files}
        else:
            self._polygons = _read(source)
        if not self._masks and not self._polygons:
            raise XraycamError(f"{printable(source)} marks no image; give a folder of masks or a JSON file")

    def has_mask_for(self, image: Path | str) -> bool:
        """Whether there is an entry for the image of this name."""
        name = Path(image)
        return name.name in self._polygons or name.stem in self._masks

    def of(self, image: Path | str, size: tuple[int, int]) -> Image.Image | None:
        """The area as mode L, 0 or 255, of `size` (width, height), that of the image; None where there is
        none for it or nothing is marked in it. Raises ImageError for a mask that cannot be read."""
        name = Path(image)
        if name.name in self._polygons:
            area = _drawn(self._polygons[name.name], size)
        elif name.stem in self._masks:
            area = _mask(self._masks[name.stem], size)
        else:
            return None
        return area if area.getbbox() is not None else None

    @property
    def digest(self) -> str:
        """SHA-256 of what is marked: equal for equal marks."""
        whole = hashlib.sha256(json.dumps(self._polygons, sort_keys=True).encode())
        for file in self._masks.values():
            whole.update(file.name.encode() + file.read_bytes())
        return whole.hexdigest()


def load_masks(source: Path) -> AnnotationMasks:
    """`AnnotationMasks(source)`, read once as long as it does not change. Raises XraycamError."""
    try:
        return _kept(source, source.stat().st_mtime_ns)
    except OSError as error:
        raise XraycamError(
            f"{printable(source)} cannot be read ({error.strerror}); give a folder of masks or a JSON file"
        ) from error


@lru_cache(maxsize=4)
def _kept(source: Path, modified_ns: int) -> AnnotationMasks:  # noqa: ARG001
    return AnnotationMasks(source)


def _read(file: Path) -> dict[str, Polygons]:
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {
            name: [[(float(x), float(y)) for x, y in region["points"]] for region in entry["regions"]]
            for name, entry in content.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise XraycamError(
            f"{printable(file)} does not hold marked areas ({type(error).__name__}: {error}); "
            'expected {"name.png": {"regions": [{"points": [[x, y], ...]}]}}'
        ) from error


def _drawn(polygons: Polygons, size: tuple[int, int]) -> Image.Image:
    area = Image.new("L", size)
    draw = ImageDraw.Draw(area)
    for points in polygons:
        if len(points) >= 3:
            draw.polygon(points, fill=255)
    return area


def _mask(file: Path, size: tuple[int, int]) -> Image.Image:
    try:
        with Image.open(file) as mask:
            return (
                mask.convert("L")
                .point(lambda value: 255 * (value > 0))
                .resize(size, Image.Resampling.NEAREST)
            )
    except (OSError, ValueError) as error:
        raise ImageError("unreadable", f"the mask {printable(file)} cannot be read ({error})") from error
