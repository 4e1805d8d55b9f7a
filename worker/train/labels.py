"""Labelled images from any source: a folder of classes, a folder of findings, or a CSV file."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worker.class_names import is_no_finding, written_alike
from worker.file_names import printable
from worker.folder_walk import WalkCounts
from worker.images.limits import Limits
from worker.train.dataset import (
    NO_GROUPS,
    LabelledDataset,
    SkippedFile,
    held_out,
    joined_groups,
    load_labelled_folder,
    read_files,
    refuse_small,
)
from worker.train.dataset_layout import DatasetError, class_files, class_names
from worker.train.held_out import sample_digests
from worker.train.label_table import LabelTable, Said, read_label_table


@dataclass(frozen=True)
class LabelSource:
    """Where labels are. `file_or_folder`: a CSV file, whose paths are relative to `images` or to its own
    folder; or a folder whose sub-folders are classes, or `findings`."""

    file_or_folder: Path
    images: Path | None = None
    findings: bool = False

    @property
    def is_table(self) -> bool:
        return self.file_or_folder.is_file()

    @property
    def image_root(self) -> Path:
        """The folder that paths are relative to."""
        if not self.is_table:
            return self.file_or_folder
        return self.file_or_folder.parent if self.images is None else self.images


def load_labels(
    source: LabelSource,
    *,
    classes: Sequence[str] | None = None,
    min_per_class: int = 10,
    group_by: str | None = None,
    limits: Limits | None = None,
    memory: int = 2_000_000_000,
    samples: bool = False,
) -> LabelledDataset:
    """Read the images of `source` with their labels; arguments as for `load_labelled_folder`.

    Of findings, `min_per_class` images must have each, and as many be known not to have it; 0: any number.
    With `classes` given, the labels must be of the kind that `source.findings` says. Raises DatasetError.
    """
    if source.is_table:
        table = read_label_table(source.file_or_folder)
        if classes is not None:
            refuse_other_kind(table, findings=source.findings)
            table = table.for_classes(classes)
        found = _Found(
            {source.image_root / row.path: row.said for row in table.rows},
            {source.image_root / row.path: written_alike(row.patient) for row in table.rows if row.patient},
            [_contradiction(source.image_root / path, lines) for path, lines in table.contradicting],
            table.notes,
        )
        return _loaded(
            source, table.classes, found, table.exclusive, min_per_class, group_by, limits, memory, samples
        )
    if not source.findings:
        return load_labelled_folder(
            source.file_or_folder,
            classes=classes,
            min_per_class=min_per_class,
            group_by=group_by,
            limits=limits,
            memory=memory,
            samples=samples,
        )
    counts = WalkCounts()
    names = finding_folders(source.file_or_folder, classes, counts)
    present = [name for name in class_names(source.file_or_folder) if name in names or is_no_finding(name)]
    said: dict[Path, Said] = {
        file: tuple(float(own == name) for name in names)
        for own in present
        for file in class_files(source.file_or_folder, own, counts)
    }
    found = _Found(said, {}, [], tuple(counts.lines()))
    return _loaded(source, names, found, False, min_per_class, group_by, limits, memory, samples)


def refuse_other_kind(table: LabelTable, *, findings: bool) -> None:
    """Raises DatasetError for a table of classes where findings are wanted, and the other way round."""
    if table.exclusive and findings:
        raise DatasetError(
            f"{printable(table.file)} gives each image one class, but the model has findings: give a column "
            "for each, or a column findings"
        )
    if not table.exclusive and not findings:
        raise DatasetError(
            f"{printable(table.file)} gives images findings, but the model has classes that exclude each "
            "other: give a column class"
        )


def finding_folders(
    folder: Path, wanted: Sequence[str] | None = None, counts: WalkCounts | None = None
) -> tuple[str, ...]:
    """The findings of `folder`: its sub-folders, but for one of images without any. Raises DatasetError."""
    names = tuple(
        name for name in class_names(folder, wanted, counts=counts, findings=True) if not is_no_finding(name)
    )
    if len(names) < 2:
        raise DatasetError(
            f"{printable(folder)} has fewer than two findings; a model of one has two classes: leave out "
            "--findings"
        )
    return names


@dataclass(frozen=True)
class _Found:
    said: dict[Path, Said]
    patients: dict[Path, str]
    skipped: list[SkippedFile]
    notes: Sequence[str]


def _loaded(
    source: LabelSource,
    classes: tuple[str, ...],
    found: _Found,
    exclusive: bool,
    least: int,
    group_by: str | None,
    limits: Limits | None,
    memory: int,
    samples: bool,
) -> LabelledDataset:
    root = Path(os.path.realpath(source.image_root))
    if not root.is_dir():
        raise DatasetError(f"--images {printable(source.image_root)}: there is no such folder")
    inside, skipped = [], list(found.skipped)
    for file in found.said:
        if not file.is_file():
            skipped.append(SkippedFile(file, "missing", f"{printable(file)} is not there"))
        elif source.is_table and root not in Path(os.path.realpath(file)).parents:
            skipped.append(SkippedFile(file, "outside-root", f"{printable(file)} leads out of {root}"))
        else:
            inside.append(file)
    read = read_files(inside, group_by, limits, memory)
    skipped += read.skipped
    # Both names: a header may tell that two are of one patient of which the table names but one.
    named = found.patients if group_by != NO_GROUPS else {}
    kept, said, dropped = _by_content(
        source, [file for file in inside if file in read.sha256], found, read.sha256
    )
    skipped += dropped
    if not samples:
        skipped += [held_out(file) for file in kept if read.sha256[file] in sample_digests()]
        kept = [file for file in kept if read.sha256[file] not in sample_digests()]
    targets = np.array([said[file] for file in kept], np.float32).reshape(len(kept), len(classes))
    patients = tuple(read.names_of_patient(file, named.get(file)) for file in kept)
    left_out = Counter(item.reason for item in skipped)
    _refuse_few(source.file_or_folder, classes, targets, exclusive, least, left_out)
    return LabelledDataset(
        root=source.image_root,
        classes=classes,
        files=tuple(kept),
        labels=tuple(int(row.argmax()) for row in targets) if exclusive else (),
        sha256=tuple(read.sha256[file] for file in kept),
        groups=joined_groups(list(zip(patients, (read.sha256[file] for file in kept), strict=True))),
        patients=patients,
        skipped=tuple(skipped),
        images=read.images,
        passed_over=tuple(found.notes),
        findings=None if exclusive else targets,
    )


def _by_content(
    source: LabelSource, files: list[Path], found: _Found, sha256: dict[Path, str]
) -> tuple[list[Path], dict[Path, Said], list[SkippedFile]]:
    """Files of equal content: from a table they must agree, or are left out; from folders, each of which says
    one finding, the first stands for all and has the findings of all."""
    alike: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        alike[sha256[file]].append(file)
    said, dropped = {}, []
    for members in alike.values():
        values = [found.said[file] for file in members]
        if not source.is_table:
            said[members[0]] = tuple(max(v or 0.0 for v in column) for column in zip(*values, strict=True))
        elif len(set(values)) == 1:
            said |= dict.fromkeys(members, values[0])
        else:
            dropped += [
                SkippedFile(
                    file,
                    "labelled-twice",
                    f"{printable(file)} has the content of another file with other labels",
                )
                for file in members
            ]
    return [file for file in files if file in said], said, dropped


# Of each reason so many files are named; a table may list a hundred thousand that are not there.
_NAMED = 20


def left_out_lines(skipped: Sequence[SkippedFile]) -> list[str]:
    """A line for each file that is not used, and of many with one reason, how many more there are."""
    by_reason: dict[str, list[SkippedFile]] = defaultdict(list)
    for item in skipped:
        by_reason[item.reason].append(item)
    lines = []
    for reason, items in by_reason.items():
        lines += [f"left out: {item.message}" for item in items[:_NAMED]]
        if len(items) > _NAMED:
            lines.append(f"left out: {len(items) - _NAMED} more ({reason}), {len(items)} in all")
    return lines


def _contradiction(file: Path, lines: str) -> SkippedFile:
    return SkippedFile(file, "labelled-twice", f"{printable(file)}: lines {lines} say different things")


def _refuse_few(
    file: Path, classes: tuple[str, ...], targets: object, exclusive: bool, least: int, left_out: Counter[str]
) -> None:
    values = np.asarray(targets)
    there = Counter({n: int((values[:, n] == 1).sum()) for n in range(len(classes))})
    refuse_small(file, classes, there, least, left_out)
    if not exclusive:
        absent = Counter({n: int((values[:, n] == 0).sum()) for n in range(len(classes))})
        refuse_small(file, [f"images without {name}" for name in classes], absent, least, left_out)
    if not len(values):
        raise DatasetError(f"{file}: none of its images can be used")
