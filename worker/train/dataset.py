"""Labelled images, of exclusive classes or with findings; and such a folder, one sub-folder per class."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from worker.class_names import written_alike
from worker.errors import ImageError
from worker.file_names import printable
from worker.folder_walk import WalkCounts
from worker.images.limits import Limits
from worker.images.reader import Radiograph, read_radiograph
from worker.processors import usable_processors
from worker.train.dataset_layout import DatasetError as DatasetError
from worker.train.dataset_layout import class_files, class_names
from worker.train.held_out import SAMPLE_REASON, sample_digests

# Of `group_by`: by the header of DICOM files, and not at all.
PATIENT, NO_GROUPS = "patient", "none"


class ImageCache:
    """Reads images and keeps them decoded while they fit; what does not fit is read again each time.

    Usable by several threads at once.
    """

    def __init__(self, limits: Limits, memory: int) -> None:
        """`memory`: bytes that decoded images may take together."""
        self._limits = limits
        self._memory_left = memory
        self._cached: dict[Path, Radiograph] = {}
        self._lock = Lock()

    def read(self, file: Path) -> Radiograph:
        """Decode `file` and keep it if it fits. Raises ImageError for every file that is no good."""
        radiograph = read_radiograph(file, self._limits)
        size = radiograph.width * radiograph.height
        with self._lock:
            if file not in self._cached and size <= self._memory_left:
                self._memory_left -= size
                self._cached[file] = radiograph
        return radiograph

    def radiograph(self, file: Path) -> Radiograph:
        """`file` decoded, from memory where it is kept."""
        cached = self._cached.get(file)
        return self.read(file) if cached is None else cached


@dataclass(frozen=True)
class SkippedFile:
    """A file that is not used, and why. `reason` is that of ImageError, `labelled-twice`, or `sample`."""

    file: Path
    reason: str
    message: str


@dataclass(frozen=True)
class LabelledDataset:
    """Images with their classes. `labels[i]` is the index in `classes` of `files[i]`; `groups[i]` is equal
    for images that must stay together: those of one patient and those with the same content.
    `patients`: what the patient whose image it is is called, by header, file name or table; empty where that
    is not known; not given: of none it is known.
    `passed_over`: lines that say what the walk over the folder left out, see `WalkCounts.lines`.

    `findings`, where classes do not exclude each other: float32 (N, classes), 1 for a finding that is there,
    0 for one that is not, NaN where nobody says; `labels` is then empty."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    sha256: tuple[str, ...]
    groups: tuple[int, ...]
    skipped: tuple[SkippedFile, ...]
    images: ImageCache
    passed_over: tuple[str, ...] = ()
    findings: NDArray[np.float32] | None = None
    patients: tuple[frozenset[str], ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def radiograph(self, index: int) -> Radiograph:
        """The image at `index` as it is on disk. Raises ImageError if it has since become unreadable."""
        return self.images.radiograph(self.files[index])

    @property
    def output(self) -> Literal["softmax", "sigmoid"]:
        """As in `ModelMetadata`: that of a network that learns these labels."""
        return "softmax" if self.findings is None else "sigmoid"

    def truth(self, indices: Sequence[int] | None = None) -> NDArray[Any]:
        """Labels (V,), or findings (V, classes), of all images or of those at `indices`."""
        whole = np.array(self.labels) if self.findings is None else self.findings
        return whole if indices is None else whole[list(indices)]

    def members(self, label: int, indices: Sequence[int] | None = None) -> list[int]:
        """Those of `indices`, or of all, whose class is, or which have the finding, `label`."""
        chosen = range(len(self)) if indices is None else indices
        return [index for index in chosen if label in self.names_of(index)]

    def names_of(self, index: int) -> list[int]:
        """The class of an image, or its findings, as indices in `classes`."""
        if self.findings is None:
            return [self.labels[index]]
        return [int(label) for label in np.flatnonzero(self.findings[index] == 1)]

    def counts(self, indices: Sequence[int] | None = None) -> dict[str, int]:
        """Images by class, or with each finding, of all or of those at `indices`."""
        chosen = range(len(self)) if indices is None else indices
        found = Counter(label for index in chosen for label in self.names_of(index))
        return {name: found[label] for label, name in enumerate(self.classes)}

    def one_sided(self, indices: Sequence[int] | None = None) -> list[str]:
        """What cannot be learned or measured on the images: classes without one, findings that none of them
        has, or that none is known not to have."""
        found = [name for name, count in self.counts(indices).items() if not count]
        if self.findings is not None:
            without = (self.truth(indices) == 0).any(axis=0)
            found += [
                f"{name} (absent)" for name, any_is in zip(self.classes, without, strict=True) if not any_is
            ]
        return found

    def subset(self, indices: Sequence[int]) -> LabelledDataset:
        """The images at `indices` alone."""
        return replace(
            self,
            files=tuple(self.files[index] for index in indices),
            labels=tuple(self.labels[index] for index in indices) if self.findings is None else (),
            sha256=tuple(self.sha256[index] for index in indices),
            groups=tuple(self.groups[index] for index in indices),
            patients=tuple(self.patients[index] for index in indices) if self.patients else (),
            findings=None if self.findings is None else self.findings[list(indices)],
        )

    def first_of_equal(self, indices: Sequence[int] | None = None) -> list[int]:
        """Those of `indices`, or of all, of which no earlier one has the content: for measuring, where a copy
        would be counted as another image."""
        chosen = range(len(self)) if indices is None else indices
        first: dict[str, int] = {}
        for index in chosen:
            first.setdefault(self.sha256[index], index)
        return list(first.values())

    @property
    def digest(self) -> str:
        """SHA-256 over classes and contents: equal for equal data, wherever it lies."""
        if self.findings is None:
            said = [self.classes[label] for label in self.labels]
        else:
            said = ["|".join(self.classes) + f" {row.tolist()}" for row in self.findings]
        lines = sorted(f"{one} {sha}" for one, sha in zip(said, self.sha256, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def load_labelled_folder(
    folder: Path,
    *,
    classes: Sequence[str] | None = None,
    min_per_class: int = 10,
    group_by: str | None = None,
    limits: Limits | None = None,
    memory: int = 2_000_000_000,
    samples: bool = False,
) -> LabelledDataset:
    """Read `folder`, whose sub-folders are the classes, in the order of their names or of `classes`.

    `group_by`: `patient`, as None does, tells patients apart by the patient ID of DICOM files, `none` does
    not; else a regular expression searched in a file's name, of which its first group, or the whole match,
    tells them apart. `memory` (bytes) bounds what is kept decoded; the rest is read again when needed.
    Files that do not decode are listed in `skipped`, and so are the package's sample radiographs, unless
    `samples`: for measuring, never for training. Raises DatasetError when there is nothing to learn.
    """
    counts = WalkCounts()
    names = class_names(folder, classes, counts=counts)
    found = [(label, file) for label, name in enumerate(names) for file in class_files(folder, name, counts)]
    read = read_files([file for _, file in found], group_by, limits, memory)
    good = [(label, file, read.sha256[file]) for label, file in found if file in read.sha256]
    good, contradictions = _drop_conflicting_labels(good)
    good, samples_found = (good, []) if samples else _drop_samples(good)
    left_out = Counter(item.reason for item in (*read.skipped, *contradictions, *samples_found))
    refuse_small(folder, names, Counter(label for label, _, _ in good), min_per_class, left_out)
    return LabelledDataset(
        root=folder,
        classes=names,
        files=tuple(file for _, file, _ in good),
        labels=tuple(label for label, _, _ in good),
        sha256=tuple(sha for _, _, sha in good),
        groups=joined_groups([(read.names_of_patient(file), sha) for _, file, sha in good]),
        patients=tuple(read.names_of_patient(file) for _, file, _ in good),
        skipped=(*read.skipped, *contradictions, *samples_found),
        images=read.images,
        passed_over=tuple(counts.lines()),
    )


@dataclass(frozen=True)
class ReadFiles:
    """Of files that decode the SHA-256 and, where it is known, the patient; and those that do not."""

    sha256: dict[Path, str]
    patients: dict[Path, str]
    skipped: list[SkippedFile]
    images: ImageCache

    def names_of_patient(self, file: Path, also: str | None = None) -> frozenset[str]:
        """What the patient of `file` is called; `also`: elsewhere."""
        return frozenset(name for name in (self.patients.get(file), also) if name is not None)


def read_files(files: Sequence[Path], group_by: str | None, limits: Limits | None, memory: int) -> ReadFiles:
    """Decode all `files`; arguments as for `load_labelled_folder`."""
    by_header = group_by in (None, PATIENT)
    pattern = None if group_by in (None, PATIENT, NO_GROUPS) else _compiled(group_by)
    images = ImageCache(limits or Limits(), memory)
    patients: dict[Path, str] = {}

    def read(file: Path) -> str | SkippedFile:
        try:
            radiograph = images.read(file)
            if by_header and radiograph.dicom is not None and radiograph.dicom.patient_id:
                patients[file] = written_alike(radiograph.dicom.patient_id)
            return radiograph.sha256
        except ImageError as error:
            return SkippedFile(file, error.reason, str(error))

    with ThreadPoolExecutor(usable_processors()) as pool:
        results = dict(zip(files, pool.map(read, files), strict=True))
    good = {file: sha for file, sha in results.items() if isinstance(sha, str)}
    if pattern is not None:
        patients |= {file: _patient(pattern, file) for file in good}
    skipped = [result for result in results.values() if isinstance(result, SkippedFile)]
    return ReadFiles(good, patients, skipped, images)


def _compiled(group_by: str | None) -> re.Pattern[str] | None:
    try:
        return None if group_by is None else re.compile(group_by)
    except re.error as error:
        raise DatasetError(f"--group-by {group_by!r} is not a regular expression: {error}") from None


class PatientUnknown(DatasetError):
    """Raised where `group_by` finds no patient in a file's name."""


def _patient(pattern: re.Pattern[str], file: Path) -> str:
    match = pattern.search(file.name)
    if match is None:
        raise PatientUnknown(
            f"--group-by {pattern.pattern!r} does not match {printable(file)}; "
            "it must find the patient in every file's name"
        )
    return written_alike(match.group(1) if pattern.groups else match.group(0))


def _drop_conflicting_labels(
    good: list[tuple[int, Path, str]],
) -> tuple[list[tuple[int, Path, str]], list[SkippedFile]]:
    """Images with the same content in two classes teach nothing; they are left out."""
    classes_of: dict[str, set[int]] = defaultdict(set)
    for label, _, sha in good:
        classes_of[sha].add(label)
    kept = [item for item in good if len(classes_of[item[2]]) == 1]
    dropped = [
        SkippedFile(
            file, "labelled-twice", f"{printable(file)} lies in another class too, with the same content"
        )
        for _, file, sha in good
        if len(classes_of[sha]) > 1
    ]
    return kept, dropped


def _drop_samples(
    good: list[tuple[int, Path, str]],
) -> tuple[list[tuple[int, Path, str]], list[SkippedFile]]:
    dropped = [held_out(file) for _, file, sha in good if sha in sample_digests()]
    return [item for item in good if item[2] not in sample_digests()], dropped


def held_out(file: Path) -> SkippedFile:
    """What is said of a sample of the package."""
    return SkippedFile(
        file, SAMPLE_REASON, f"{printable(file)} is a sample of the package, held out of all training"
    )


def refuse_small(
    source: Path, names: Sequence[str], found: Counter[int], least: int, left_out: Counter[str]
) -> None:
    """Raises DatasetError where of one of `names`, counted by index, there are fewer than `least` images."""
    small = [f"{name} ({found[label]})" for label, name in enumerate(names) if found[label] < least]
    if small:
        listed = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        raise DatasetError(
            f"{source}: too few usable images in {', '.join(small)}; each class needs at least {least}"
            + (f"; left out: {listed}" if listed else "")
        )


def joined_groups(keys: Sequence[tuple[Collection[str], str]]) -> tuple[int, ...]:
    """Group numbers such that images which share a name of their patient, or the content, have one
    (union-find). `keys`: names and content of each image."""
    parent = list(range(len(keys)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, (patients, sha) in enumerate(keys):
        for key in [*(("patient", patient) for patient in patients), ("content", sha)]:
            parent[root(index)] = root(first.setdefault(key, index))
    return tuple(root(index) for index in range(len(keys)))
