"""Annotated areas of images, lungs or findings: polygons in a JSON file, or a folder of masks."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageOps

from worker.errors import ImageError, XraycamError
from worker.file_names import has_image_extension, printable
from worker.folder_walk import WalkCounts, left_out_as, walk

Polygons = list[list[tuple[float, float]]]


Place = tuple[str, ...]  # folders above a mask, those dropped that only name a side or masks
_SHAPES_WITHIN = 0.1
_SUFFIX = re.compile(r"[ _-]((left|right|lungs?)[ _-]?)?masks?$", re.IGNORECASE)
_SIDE = re.compile(r"left|right|((left|right|manual|lungs?)[ _-]?)?masks?", re.IGNORECASE)


@dataclass(frozen=True)
class _Outlines:
    polygons: Polygons
    size: tuple[float, float] | None  # width and height of the picture they were drawn on, None: not said


class AnnotationMasks:
    """Areas by image: by relative path where the folders agree, else by a file name that is unambiguous."""

    def __init__(self, source: Path) -> None:
        """`source`: a JSON object `{path: {"width": w, "height": h, "regions": [{"points": [[x, y], ...]},
        ...]}}`, in pixels of a picture of that size, without it in pixels of the image; or a folder of masks
        of any size, each called as its image but for the suffix, or with `_mask` at the end; several masks of
        one image are united. Outside of what a mask marks it is black (0), or transparent. Raises
        XraycamError if it cannot be read or is empty."""
        self.source = source
        self._outlines: dict[str, _Outlines] = {}
        self._places: dict[str, dict[Place, list[str]]] = {}
        if source.is_dir():
            names = sorted(
                found.path
                for found in walk(source, WalkCounts(), masks=True)
                if has_image_extension(found.path) and found.entry.is_file()
            )
        else:
            self._outlines = _read(source)
            names = sorted(self._outlines)
        self.names = frozenset(names)
        for name in names:
            path = PurePosixPath(name)
            place = tuple(part for part in path.parts[:-1] if not _SIDE.fullmatch(part))
            for key in {path.stem, _SUFFIX.sub("", path.stem)} if not self._outlines else {path.name}:
                self._places.setdefault(key, {}).setdefault(place, []).append(name)
        if not names:
            raise XraycamError(f"{printable(source)} marks no image; give a folder of masks or a JSON file")

    def has_mask_for(self, image: Path | str) -> bool:
        """Whether there is an entry for this image, and no doubt that it is meant."""
        return bool(self.names_for(image))

    def names_for(self, image: Path | str) -> list[str]:
        """The masks, or the entry of the JSON file, that are meant for this image."""
        return self._entries(Path(image))

    def matches_by_name_alone(self, image: Path | str) -> bool:
        """Whether the entry for this image lies in no folder that would tell images of one name apart."""
        places = self._places.get(Path(image).name if self._outlines else Path(image).stem, {})
        return list(places) == [()]

    def of(self, image: Path | str, size: tuple[int, int]) -> Image.Image | None:
        """The area as mode L, 0 or 255, of `size` (width, height), that of the image; None where there is
        none for it or nothing is marked in it. Raises ImageError for a mask that cannot be read, or has
        several pages, for outlines that reach beyond the picture, and for what was drawn on one of another
        shape, such as one not turned upright."""
        area: Image.Image | None = None
        for name in self._entries(Path(image)):
            if self._outlines:
                part = _drawn(self._outlines[name], size, printable(image))
            else:
                part = _mask(self.source / name, size)
            area = part if area is None else ImageChops.lighter(area, part)
        return area if area is not None and area.getbbox() is not None else None

    def _entries(self, image: Path) -> list[str]:
        places = self._places.get(image.name if self._outlines else image.stem, {})
        folders = image.parts[:-1]
        agreeing = [place for place in places if place and folders[-len(place) :] == place]
        if agreeing:
            return places[max(agreeing, key=len)]
        if len(places) != 1 or (() not in places and self._has_namesake(image)):
            return []
        return next(iter(places.values()))

    def _has_namesake(self, image: Path) -> bool:
        """Whether a folder beside the image's own holds an image of the same name."""
        try:
            with os.scandir(image.parent.parent) as entries:
                return image.is_absolute() and any(
                    entry.name != image.parent.name
                    and entry.is_dir()
                    and left_out_as(entry.name, is_folder=True) is None
                    and not self.source.is_relative_to(entry.path)
                    and os.path.lexists(f"{entry.path}/{image.name}")
                    for entry in entries
                )
        except OSError:
            return False

    @property
    def digest(self) -> str:
        """SHA-256 of what is marked: equal for equal marks. Raises XraycamError for a mask that cannot be
        read."""
        whole = hashlib.sha256(
            json.dumps({n: [o.polygons, o.size] for n, o in self._outlines.items()}, sort_keys=True).encode()
        )
        if not self._outlines:
            names = {name for places in self._places.values() for found in places.values() for name in found}
            for name in sorted(names):
                try:
                    whole.update(os.fsencode(name) + (self.source / name).read_bytes())
                except OSError as error:
                    raise XraycamError(
                        f"the mask {printable(self.source / name)} cannot be read: {error.strerror}; "
                        "check its permissions"
                    ) from error
        return whole.hexdigest()


@dataclass
class MaskMatches:
    """Which masks and images belong together, counted while images are come across."""

    masks: AnnotationMasks
    images: int = 0
    matched: int = 0
    used: set[str] = field(default_factory=set)

    def add(self, image: Path | str) -> bool:
        """Count an image; whether it has a mask."""
        names = self.masks.names_for(image)
        self.images += 1
        self.matched += bool(names)
        self.used.update(names)
        return bool(names)

    def lines(self) -> Iterator[str]:
        """How many images have a mask, and how many masks have no image, with an example."""
        yield f"masks: {self.matched} of {self.images} {'image' if self.images == 1 else 'images'} matched"
        unused = sorted(self.masks.names - self.used)
        if unused:
            total = len(self.masks.names)
            one = f"mask matches no image: {printable(unused[0])}"
            many = f"masks match no image, such as {printable(unused[0])}"
            yield f"masks: {len(unused)} of {total} {one if len(unused) == 1 else many}"


def load_masks(source: Path, digest: str | None = None) -> AnnotationMasks:
    """`AnnotationMasks(source)`, read once for a `digest`, that of the run: the time of a folder says nothing
    of its sub-folders. Without one it is read anew. Raises XraycamError, also for a JSON file of another
    digest; the masks of a folder are not all read for that, for longer than a worker may be silent."""
    try:
        modified_ns = source.stat().st_mtime_ns
        return AnnotationMasks(source) if digest is None else _kept(source, modified_ns, digest)
    except OSError as error:
        raise XraycamError(
            f"{printable(source)} cannot be read ({error.strerror}); give a folder of masks or a JSON file"
        ) from error


@lru_cache(maxsize=4)
def _kept(source: Path, modified_ns: int, digest: str) -> AnnotationMasks:
    found = AnnotationMasks(source)
    if source.is_file():
        require_masks_of_run(found, digest)
    return found


def require_masks_of_run(masks: AnnotationMasks, digest: str | None) -> None:
    """Raises XraycamError where `masks` are not those of `digest`, with which a run began."""
    if masks.digest != digest:
        raise XraycamError(
            f"the masks in {printable(masks.source)} are others than those the run began with; run "
            "the folder again, which is then another run"
        )


def _read(file: Path) -> dict[str, _Outlines]:
    try:
        content: dict[str, Any] = json.loads(
            file.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_repeats
        )
        found = {
            name: _Outlines(
                [[(_finite(x), _finite(y)) for x, y in region["points"]] for region in entry["regions"]],
                _size(entry, "width", "height"),
            )
            for name, entry in content.items()
        }
        _refuse_fractions(found)
        return _with_original_sizes(found, content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise XraycamError(
            f"{printable(file)} does not hold marked areas ({type(error).__name__}: {error}); "
            'expected {"name.png": {"regions": [{"points": [[x, y], ...]}]}}'
        ) from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError for two entries of one name, of which one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        again = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{printable(again)} stands in it twice")
    return found


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no place")
    return number


def _refuse_fractions(found: dict[str, _Outlines]) -> None:
    """Raises ValueError where all places of the file lie within one pixel: they are shares of the sides."""
    places = [
        max(point)
        for outlines in found.values()
        if outlines.size is None
        for points in outlines.polygons
        for point in points
    ]
    if places and max(places) <= 1:
        raise ValueError("its points are fractions; give pixels")


def _size(entry: dict[str, Any], width: str, height: str) -> tuple[float, float] | None:
    if width in entry and height in entry and float(entry[width]) > 0 and float(entry[height]) > 0:
        return float(entry[width]), float(entry[height])
    given = entry.get("size")
    return (float(given[0]), float(given[1])) if isinstance(given, list) and len(given) == 2 else None


def _with_original_sizes(found: dict[str, _Outlines], content: dict[str, Any]) -> dict[str, _Outlines]:
    """Take `orig_width` and `orig_height` for the size drawn at, if the points of the file reach as far.

    In some files (Shenzhen's) they are those of a larger picture, that the points do not refer to.
    """
    sizes = {name: _size(content[name], "orig_width", "orig_height") for name in found}
    shares = [
        max(x / size[0], y / size[1])
        for name, size in sizes.items()
        if size is not None
        for points in found[name].polygons
        for x, y in points
    ]
    if not shares or max(shares) < 0.5:
        return found
    return {
        name: known if known.size is not None else _Outlines(known.polygons, sizes[name])
        for name, known in found.items()
    }


def _is_of_another_shape(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether neither can be the other at another size. Squares are what many sets are squeezed into."""
    shapes = [width / height for width, height in (one, other)]
    is_square = any(abs(shape - 1) <= _SHAPES_WITHIN for shape in shapes)
    return not is_square and abs(shapes[0] / shapes[1] - 1) > _SHAPES_WITHIN


def _drawn(outlines: _Outlines, size: tuple[int, int], shown: str) -> Image.Image:
    area = Image.new("L", size)
    draw = ImageDraw.Draw(area)
    width, height = outlines.size or size
    if _is_of_another_shape((width, height), size):
        raise ImageError(
            "unreadable",
            f"{shown}: its outlines are of a picture of {width:.0f} x {height:.0f} pixels, and it has "
            f"{size[0]} x {size[1]}; draw them on the image as it is shown",
        )
    across, down = size[0] / width, size[1] / height
    for points in outlines.polygons:
        if any(x > width + 1 or y > height + 1 for x, y in points):
            raise ImageError(
                "unreadable",
                f"{shown}: its outline reaches beyond {width:.0f} x {height:.0f} pixels; state the size it "
                'was drawn at ("width" and "height" in its entry)',
            )
        if len(points) >= 3:
            draw.polygon([(x * across, y * down) for x, y in points], fill=255)
    return area


def _mask(file: Path, size: tuple[int, int]) -> Image.Image:
    try:
        with Image.open(file) as mask:
            if getattr(mask, "n_frames", 1) > 1 and mask.format != "MPO":
                raise ValueError("it has several pages; write a file for each")
            upright = ImageOps.exif_transpose(mask)
            if _is_of_another_shape(upright.size, size):
                raise ValueError(
                    f"it has {upright.width} x {upright.height} pixels, its image {size[0]} x {size[1]}; "
                    "turn or cut it as the image is shown"
                )
            marked = _marked(upright, is_lossy=mask.format in ("JPEG", "MPO", "WEBP"))
        return Image.fromarray(marked.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
    except (OSError, ValueError) as error:
        raise ImageError("unreadable", f"the mask {printable(file)} cannot be read ({error})") from error


def _marked(mask: Image.Image, is_lossy: bool) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where any colour is above 0, booleans (height, width). Of a picture with transparency only what can be
    seen counts, and all of that where it is of one colour. `is_lossy`: edges have a faint halo."""
    alpha = None
    if mask.has_transparency_data:
        values = np.asarray(mask.convert("RGBA"))
        values, alpha = values[..., :3], values[..., 3]
    else:
        values = np.asarray(
            mask.convert("RGB") if mask.mode in ("P", "CMYK", "YCbCr", "LAB", "HSV") else mask
        )
    is_marked = values > (values.max() / 4 if is_lossy else 0)
    if is_marked.ndim == 3:
        is_marked = np.asarray(is_marked.any(axis=2))
    if alpha is None or alpha.min() == alpha.max():
        return is_marked
    is_seen = alpha > 0
    colours = values[is_seen].reshape(-1, 3)
    return is_seen if (colours == colours[0]).all() else is_seen & is_marked
