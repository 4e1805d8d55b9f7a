"""A labelled folder, one sub-folder per class, and its split into training and validation images."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from worker.errors import ImageError
from worker.file_names import printable
from worker.folder_walk import WalkCounts
from worker.images.limits import Limits
from worker.images.reader import Radiograph, read_radiograph
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
    `passed_over`: lines that say what the walk over the folder left out, see `WalkCounts.lines`."""

    root: Path
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    sha256: tuple[str, ...]
    groups: tuple[int, ...]
    skipped: tuple[SkippedFile, ...]
    images: ImageCache
    passed_over: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    def radiograph(self, index: int) -> Radiograph:
        """The image at `index` as it is on disk. Raises ImageError if it has since become unreadable."""
        return self.images.radiograph(self.files[index])

    def counts(self, indices: Sequence[int] | None = None) -> dict[str, int]:
        """Images by class, of all or of those at `indices`."""
        chosen = range(len(self)) if indices is None else indices
        found = Counter(self.labels[index] for index in chosen)
        return {name: found[label] for label, name in enumerate(self.classes)}

    def subset(self, indices: Sequence[int]) -> LabelledDataset:
        """The images at `indices` alone."""
        return replace(
            self,
            files=tuple(self.files[index] for index in indices),
            labels=tuple(self.labels[index] for index in indices),
            sha256=tuple(self.sha256[index] for index in indices),
            groups=tuple(self.groups[index] for index in indices),
        )

    @property
    def digest(self) -> str:
        """SHA-256 over classes and contents: equal for equal data, wherever it lies."""
        lines = sorted(f"{self.classes[n]} {sha}" for n, sha in zip(self.labels, self.sha256, strict=True))
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
    by_header = group_by in (None, PATIENT)
    pattern = None if group_by in (None, PATIENT, NO_GROUPS) else _compiled(group_by)
    patients: dict[Path, str] = {}
    counts = WalkCounts()
    names = class_names(folder, classes, counts=counts)
    found = [(label, file) for label, name in enumerate(names) for file in class_files(folder, name, counts)]
    images = ImageCache(limits or Limits(), memory)

    def read(item: tuple[int, Path]) -> str | SkippedFile:
        try:
            radiograph = images.read(item[1])
            if by_header and radiograph.dicom is not None and radiograph.dicom.patient_id:
                patients[item[1]] = radiograph.dicom.patient_id
            return radiograph.sha256
        except ImageError as error:
            return SkippedFile(item[1], error.reason, str(error))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(read, found))
    skipped = [result for result in results if isinstance(result, SkippedFile)]
    good = [(*item, sha) for item, sha in zip(found, results, strict=True) if isinstance(sha, str)]
    good, contradictions = _drop_conflicting_labels(good)
    good, held_out = (good, []) if samples else _drop_samples(good)
    left_out = Counter(item.reason for item in (*skipped, *contradictions, *held_out))
    _refuse_small(folder, names, [label for label, _, _ in good], min_per_class, left_out)
    return LabelledDataset(
        root=folder,
        classes=names,
        files=tuple(file for _, file, _ in good),
        labels=tuple(label for label, _, _ in good),
        sha256=tuple(sha for _, _, sha in good),
        groups=_groups([(patients.get(file) or _patient(pattern, file), sha) for _, file, sha in good]),
        skipped=(*skipped, *contradictions, *held_out),
        images=images,
        passed_over=tuple(counts.lines()),
    )


def _compiled(group_by: str | None) -> re.Pattern[str] | None:
    try:
        return None if group_by is None else re.compile(group_by)
    except re.error as error:
        raise DatasetError(f"--group-by {group_by!r} is not a regular expression: {error}") from None


def _patient(pattern: re.Pattern[str] | None, file: Path) -> str | None:
    if pattern is None:
        return None
    match = pattern.search(file.name)
    if match is None:
        raise DatasetError(
            f"--group-by {pattern.pattern!r} does not match {printable(file)}; "
            "it must find the patient in every file's name"
        )
    return str(match.group(1) if pattern.groups else match.group(0))


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
    dropped = [
        SkippedFile(
            file, SAMPLE_REASON, f"{printable(file)} is a sample of the package, held out of all training"
        )
        for _, file, sha in good
        if sha in sample_digests()
    ]
    return [item for item in good if item[2] not in sample_digests()], dropped


def _refuse_small(
    folder: Path, names: tuple[str, ...], labels: list[int], least: int, left_out: Counter[str]
) -> None:
    found = Counter(labels)
    small = [f"{name} ({found[label]})" for label, name in enumerate(names) if found[label] < least]
    if small:
        listed = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        raise DatasetError(
            f"{folder}: too few usable images in {', '.join(small)}; each class needs at least {least}"
            + (f"; left out: {listed}" if listed else "")
        )


def _groups(keys: list[tuple[str | None, str]]) -> tuple[int, ...]:
    """Group numbers such that equal patients and equal contents share one (union-find)."""
    parent = list(range(len(keys)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, (patient, sha) in enumerate(keys):
        for key in ([("patient", patient)] if patient is not None else []) + [("content", sha)]:
            parent[root(index)] = root(first.setdefault(key, index))
    return tuple(root(index) for index in range(len(keys)))


@dataclass(frozen=True)
class Split:
    """Indices into a `LabelledDataset`, ascending."""

    training: tuple[int, ...]
    validation: tuple[int, ...]


def train_val_split(dataset: LabelledDataset, *, share: float, seed: int) -> Split:
    """Put about `share` of each class aside for validation; groups go to one side whole.

    Raises DatasetError if a class would be missing on one side.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(dataset.groups):
        members[group].append(index)
    wanted = {n: round(share * count) for n, count in Counter(dataset.labels).items()}
    order = np.random.default_rng(seed).permutation(sorted(members))
    validation: list[int] = []
    for group in order:
        needs = Counter(dataset.labels[index] for index in members[int(group)])
        if all(wanted[label] >= count for label, count in needs.items()):
            validation += members[int(group)]
            wanted = {label: count - needs[label] for label, count in wanted.items()}
    return _checked(dataset, validation)


def fold_splits(dataset: LabelledDataset, *, folds: int, seed: int) -> list[Split]:
    """`folds` splits such that every image is in exactly one validation part."""
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            parts = list(splitter.split(np.zeros(len(dataset)), dataset.labels, dataset.groups))
        except (ValueError, UserWarning) as error:
            raise DatasetError(f"{dataset.root} cannot be cut into {folds} folds: {error}") from error
    return [_checked(dataset, [int(index) for index in held_out]) for _, held_out in parts]


def _checked(dataset: LabelledDataset, validation: list[int]) -> Split:
    aside = set(validation)
    result = Split(
        training=tuple(index for index in range(len(dataset)) if index not in aside),
        validation=tuple(sorted(aside)),
    )
    for name, part in (("training", result.training), ("validation", result.validation)):
        missing = [label for label, count in dataset.counts(part).items() if count == 0]
        if missing:
            raise DatasetError(
                f"{dataset.root}: no image of {', '.join(missing)} would be in the {name} part; "
                "add images, or change the validation share or --group-by"
            )
    return result
