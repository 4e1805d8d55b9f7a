"""Drawing images of a folder to measure maps on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from worker.counted_words import counted
from worker.errors import ImageError, XraycamError
from worker.explain.attribution import mask_in_input
from worker.file_names import printable
from worker.folder_walk import image_files
from worker.images.limits import Limits
from worker.images.masks import AnnotationMasks
from worker.images.preprocess import Pixels, preprocess
from worker.images.reader import read_radiograph
from worker.model.metadata import ModelMetadata

UNKNOWN = -1


@dataclass(frozen=True)
class Sample:
    """`pixels` uint8 (N, size, size), what the network sees of `files`; `labels[i]` is a class index, from
    the name of the folder the file lies in, or of the nearest above it, or -1; `areas[i]` is what is
    marked, uint8 (size, size), or None."""

    files: tuple[Path, ...]
    pixels: Pixels
    labels: tuple[int, ...]
    areas: tuple[Pixels | None, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def require(self, least: int, source: Path) -> None:
        """Raises XraycamError unless there are `least` different images."""
        different = len({one.tobytes() for one in self.pixels})
        if different < least:
            raise XraycamError(
                f"{printable(source)} gave {counted(different, 'different image')}; with fewer than "
                f"{least} the result means nothing"
            )


def draw_sample(
    source: Path,
    metadata: ModelMetadata,
    count: int,
    *,
    marked: AnnotationMasks | None = None,
    only_marked: bool = False,
    seed: int = 0,
    limits: Limits | None = None,
    on_message: Callable[[str], object] = lambda _: None,
) -> Sample:
    """Draw up to `count` images in and below `source`, or `source` itself if it is a file, as many of each
    folder as of the others as far as they last.

    Files that cannot be read are told of and left out. `only_marked`: of images with something marked.
    Raises XraycamError if none is left.
    """
    files: list[Path] = []
    pixels: list[Pixels] = []
    labels: list[int] = []
    areas: list[Pixels | None] = []
    for file in _drawn(source, seed):
        if len(files) == count:
            break
        if only_marked and (marked is None or not marked.has_mask_for(file)):
            continue
        try:
            radiograph = read_radiograph(file, limits or Limits())
            size = (radiograph.width, radiograph.height)
            area = None if marked is None else marked.of(file, size)
        except ImageError as error:
            on_message(f"left out: {error}")
            continue
        if only_marked and area is None:
            continue
        files.append(file)
        pixels.append(preprocess(radiograph, metadata.preprocessing))
        labels.append(_label(file, source, metadata.classes))
        areas.append(None if area is None else mask_in_input(area, metadata.preprocessing))
    if not files:
        which = "with something marked in it" if only_marked else "that can be read"
        raise XraycamError(f"{printable(source)} holds no image {which}; name a folder of radiographs")
    return Sample(tuple(files), np.stack(pixels), tuple(labels), tuple(areas))


def _label(file: Path, source: Path, classes: Sequence[str]) -> int:
    """As labelled folders have it: whatever lies below a folder that is called as a class is of it."""
    for folder in file.parents:
        if folder.name in classes:
            return classes.index(folder.name)
        if folder in (source, source.parent):
            break
    return UNKNOWN


def _drawn(source: Path, seed: int) -> Iterator[Path]:
    """The files below `source` in a random order, folder by folder in turn."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for file in image_files(source):
        by_folder[file.parent].append(file)
    random = np.random.default_rng(seed)
    shuffled: list[Sequence[Path]] = [
        [files[int(index)] for index in random.permutation(len(files))] for files in by_folder.values()
    ]
    for row in zip_longest(*shuffled):
        yield from (file for file in row if file is not None)
