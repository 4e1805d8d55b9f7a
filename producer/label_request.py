"""The labels that a training is asked to learn: counted without reading images, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.class_names import is_no_finding
from worker.errors import XraycamError
from worker.train.dataset_layout import DatasetError, class_files, class_names
from worker.train.label_table import read_label_table


class TrainingRefused(XraycamError):
    """Raised when what is asked for cannot be trained."""


@dataclass(frozen=True)
class LabelRequest:
    """A folder or a CSV file, the folder of its images, and whether sub-folders are findings."""

    source: Path
    images: Path | None = None
    findings: bool = False

    @property
    def has_findings(self) -> bool:
        return self.findings or (self.source.is_file() and not read_label_table(self.source).exclusive)


def class_counts(given: LabelRequest, what: str, wanted: Sequence[str] | None = None) -> dict[str, int]:
    """Files by class or finding; `what` is what messages call the source. Whether they are images is found
    when they are read. Raises TrainingRefused."""
    folder = given.source
    try:
        if folder.is_file():
            return _table_counts(given, what, wanted)
        if given.images is not None and what == "DATASET":
            raise TrainingRefused("--images is for a CSV file of labels; a folder holds its images")
        names = class_names(folder, None if given.findings else wanted, what=what)
        if given.findings:
            names = tuple(name for name in names if not is_no_finding(name))
            if len(names) < 2:
                raise TrainingRefused(f"--findings: {folder} has fewer than two sub-folders of findings")
        return {name: len(class_files(folder, name)) for name in names}
    except DatasetError as error:
        raise TrainingRefused(str(error)) from None


def _table_counts(given: LabelRequest, what: str, wanted: Sequence[str] | None) -> dict[str, int]:
    if given.source.suffix.lower() != ".csv":
        raise TrainingRefused(f"{what} {given.source}: is no folder, and no table whose name ends in .csv")
    if given.images is not None and not given.images.is_dir():
        raise TrainingRefused(f"--images {given.images}: there is no such folder")
    table = read_label_table(given.source, what)
    if given.findings and table.exclusive:
        raise TrainingRefused(
            f"--findings: {given.source} gives each image one class; write a column for each finding"
        )
    return (table if wanted is None else table.for_classes(wanted)).counts()
