"""A CSV file of labels: one class for each image, or any number of findings. Read without reading images."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from worker.class_names import alike, is_missing, is_no_finding, written_alike
from worker.file_names import printable
from worker.train.dataset_layout import DatasetError

PATH_COLUMNS = ("path", "file", "filename", "image", "image index")
CLASS_COLUMNS = ("class", "label")
LIST_COLUMNS = ("findings", "finding labels")
PATIENT_COLUMNS = (
    "patient", "patient id", "patient_id", "patientid", "subject", "subject id", "subject_id", "subjectid",
)  # fmt: skip
# Of public tables and of ours: what they say beside labels.
OTHER_COLUMNS = (
    "sex", "gender", "patient gender", "age", "patient age", "device", "site", "view", "view position",
    "frontal/lateral", "ap/pa", "split", "reader", "readers", "predicted", "notes", "reviewed_at",
    "no finding", "no_finding", "fold", "set", "subset", "partition", "index", "id", "row",
)  # fmt: skip
_INDEX = re.compile(r"unnamed: \d+")  # as pandas writes it
# Of lists; the latter may be within one name as well.
_BETWEEN_NAMES, _PERHAPS_BETWEEN = re.compile(r"[|;]"), re.compile(r"[,/&+]|\band\b")
CELLS = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "": None, "-1": None, "-1.0": None}
LARGEST_TABLE = 500_000_000
MOST_FINDINGS = 1000

Said = tuple[float | None, ...]


@dataclass(frozen=True)
class LabelRow:
    """What is said of one file. `said`, by class: 1 it is that, or has it; 0 not; None nobody says."""

    path: str
    line: int
    said: Said
    patient: str | None = None


@dataclass(frozen=True)
class LabelTable:
    """`exclusive`: an image has one class; else each class is a finding. `contradicting`: paths with rows
    that say different things, and these lines. `notes`: lines for people, on what was not used."""

    file: Path
    exclusive: bool
    classes: tuple[str, ...]
    rows: tuple[LabelRow, ...]
    contradicting: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def counts(self) -> dict[str, int]:
        """Files of each class, or with each finding."""
        return {name: sum(row.said[n] == 1 for row in self.rows) for n, name in enumerate(self.classes)}

    def counts_without(self) -> dict[str, int]:
        """Files that are known not to be of each class, or not to have each finding."""
        return {name: sum(row.said[n] == 0 for row in self.rows) for n, name in enumerate(self.classes)}

    def for_classes(self, wanted: Sequence[str]) -> LabelTable:
        """The table in terms of the classes `wanted`: a finding that it does not have is not known, a class
        that it does not have is refused with DatasetError."""
        missing = [name for name in wanted if name not in self.classes]
        extra = [name for name in self.classes if name not in wanted]
        if missing and (self.exclusive or len(missing) == len(wanted)):
            raise DatasetError(
                f"{printable(self.file)} has no image of {', '.join(missing)}; it names "
                f"{printable(', '.join(self.classes))}"
            )
        place = {name: n for n, name in enumerate(self.classes)}
        said = [
            replace(row, said=tuple(row.said[place[n]] if n in place else None for n in wanted))
            for row in self.rows
        ]
        kept = [row for row in said if any(row.said) or not self.exclusive]
        notes = list(self.notes)
        if missing:
            notes.append(f"not in the table, and not measured: {', '.join(missing)}")
        if extra:
            notes.append(f"not of the model, and not used: {printable(', '.join(extra))}")
        return replace(self, classes=tuple(wanted), rows=tuple(kept), notes=tuple(notes))


def read_label_table(file: Path, what: str = "") -> LabelTable:
    """The labels in `file`; `what` is what messages call it. Raises DatasetError, with the line, for a table
    that is not as docs/labels.md says."""
    shown = f"{what} {printable(file)}".strip()
    try:
        if file.stat().st_size > LARGEST_TABLE:
            raise DatasetError(f"{shown} has more than {LARGEST_TABLE:,} bytes, the limit")
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return _read(csv.reader(stream, strict=True), file, shown)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        cause = getattr(error, "strerror", None) or error
        raise DatasetError(f"{shown} cannot be read as CSV in UTF-8: {cause}") from None


def _read(reader: Iterator[list[str]], file: Path, shown: str) -> LabelTable:
    names = [name.strip() for name in next(reader, [])]
    lower = [name.casefold() for name in names]
    again = [name for name, count in Counter(lower).items() if count > 1 and name]
    if again:
        raise DatasetError(f"{shown}: two columns are called {printable(again[0])}; names must differ")
    _refuse_alike(names, "columns", shown)
    path = _only(lower, PATH_COLUMNS, shown)
    if path is None:
        raise DatasetError(
            f"{shown}: line 1 names no column path, file or image, separated by commas; it has "
            f"{printable(', '.join(names)[:200]) or 'nothing'}"
        )
    patient = _only(lower, PATIENT_COLUMNS, shown)
    one, many = _only(lower, CLASS_COLUMNS, shown), _only(lower, LIST_COLUMNS, shown)
    if one is not None and many is not None:
        raise DatasetError(f"{shown}: has {names[one]} and {names[many]}; leave one of these columns")
    chosen = one if one is not None else many
    columns = [
        n
        for n, name in enumerate(lower)
        if chosen is None and name and n not in (path, patient) and not _is_other(name)
    ]
    if chosen is None and len(columns) < 2:
        raise DatasetError(
            f"{shown}: needs a column class, a column findings, or two or more columns of findings with 0 "
            f"and 1; it has {printable(', '.join(names)[:200])}"
        )
    if len(columns) > MOST_FINDINGS:
        raise DatasetError(f"{shown}: has {len(columns)} columns of findings; {MOST_FINDINGS} at most")
    if chosen is None and (none := [names[n] for n in columns if is_no_finding(names[n])]):
        raise DatasetError(
            f"{shown}: a column {printable(none[0])} is no finding; of classes that exclude each other write "
            "the one in a column class, and of findings leave it out: 0 for all others says it"
        )
    lines = list(_lines(reader, len(names), shown))
    if chosen is None:
        classes = [names[n] for n in columns]
        said = [_zeros_and_ones(cells, columns, names, number, shown) for number, cells in lines]
    else:
        parts = [_named(cells[chosen], number, one is None, names[chosen], shown) for number, cells in lines]
        classes = sorted(set().union(*parts))
        _refuse_alike(classes, "names", shown)
        _refuse_lists(classes, names[chosen], shown, "" if one is not None else "; separate findings by |")
        if len(classes) < 2:
            raise DatasetError(f"{shown}: column {names[chosen]} names fewer than two different ones")
        said = [tuple(1.0 if name in part else 0.0 for name in classes) for part in parts]
    unused = [
        name for n, name in enumerate(names) if name and n not in (path, patient, chosen) and n not in columns
    ]
    notes = [f"columns not used: {printable(', '.join(unused))}"] if unused else []
    rows = [
        LabelRow(
            _path(cells[path], number, shown),
            number,
            values,
            (cells[patient].strip() or None) if patient is not None else None,
        )
        for (number, cells), values in zip(lines, said, strict=True)
    ]
    return _merged(LabelTable(file, one is not None, tuple(classes), tuple(rows), (), tuple(notes)))


def _is_other(name: str) -> bool:
    return name in OTHER_COLUMNS or _INDEX.fullmatch(name) is not None


def _refuse_alike(names: Sequence[str], what: str, shown: str) -> None:
    if (pair := alike(names)) is not None:
        raise DatasetError(
            f"{shown}: the {what} {printable(pair[0])!r} and {printable(pair[1])!r} differ only in how they "
            "are written; write them alike"
        )


def _refuse_lists(names: Sequence[str], column: str, shown: str, advice: str) -> None:
    """Refuse names that are several: `['A', 'B']`; `A;B` where A or B, `A, B` where both are names, too."""
    known = {written_alike(name) for name in names}
    for name in names:
        surely = {written_alike(part) for part in _BETWEEN_NAMES.split(name)}
        perhaps = {written_alike(part) for part in _PERHAPS_BETWEEN.split(name)}
        is_list = (len(surely) > 1 and known & surely) or (len(perhaps) > 1 and perhaps <= known)
        if is_list or (name.startswith("[") and name.endswith("]")):
            raise DatasetError(
                f"{shown}: column {printable(column)}: {printable(name[:100])!r} is several names{advice}"
            )


def _only(lower: list[str], known: Sequence[str], shown: str) -> int | None:
    found = [n for n, name in enumerate(lower) if name in known]
    if len(found) > 1:
        raise DatasetError(
            f"{shown}: has {' and '.join(lower[n] for n in found)}; leave one of these columns"
        )
    return found[0] if found else None


def _lines(reader: Iterator[list[str]], width: int, shown: str) -> Iterator[tuple[int, list[str]]]:
    for cells in reader:
        number = reader.line_num  # type: ignore[attr-defined]  # csv's readers have no type of their own
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != width:
            raise DatasetError(f"{shown}: line {number} has {len(cells)} cells, line 1 has {width}")
        yield number, cells


def _zeros_and_ones(cells: list[str], columns: list[int], names: list[str], number: int, shown: str) -> Said:
    for n in columns:
        if cells[n].strip() not in CELLS:
            raise DatasetError(
                f"{shown}: line {number}, column {printable(names[n])}: {printable(cells[n][:50])!r} is not "
                "1 (there), 0 (not there), or empty or -1 (not known); leave out columns that are no findings"
            )
    return tuple(CELLS[cells[n].strip()] for n in columns)


def _named(cell: str, number: int, is_list: bool, column: str, shown: str) -> set[str]:
    names = [name.strip() for name in (cell.split("|") if is_list else [cell])]
    if not all(names):
        none = ", or No Finding" if is_list else ""
        raise DatasetError(f"{shown}: line {number}, column {printable(column)}: a name is missing{none}")
    if any(is_missing(name) for name in names):
        raise DatasetError(
            f"{shown}: line {number}, column {printable(column)}: {printable(cell[:50])!r} says that nothing "
            "is known; leave out such rows"
        )
    bad = next((name for name in names if not name.isprintable() or len(name) > 255), None)
    if bad is not None:
        raise DatasetError(f"{shown}: line {number}: {printable(bad[:50])!r} cannot be the name of a class")
    if not is_list:
        return set(names)
    found = {name for name in names if not is_no_finding(name)}
    if found and len(found) < len(set(names)):
        raise DatasetError(
            f"{shown}: line {number}: names findings and none of them: {printable(cell[:100])}"
        )
    return found


def _path(cell: str, number: int, shown: str) -> str:
    way = PurePosixPath(cell.strip())
    if not way.parts or "\0" in cell:
        raise DatasetError(f"{shown}: line {number} names no file")
    if way.is_absolute() or ".." in way.parts:
        raise DatasetError(
            f"{shown}: line {number}: {printable(cell[:200])} leads out of the images' folder; write paths "
            "from that folder, and name it with --images"
        )
    return str(way)


def _merged(table: LabelTable) -> LabelTable:
    """One row for each path: what is unknown in one row is taken from another, what differs is told."""
    by_path: dict[str, list[LabelRow]] = {}
    for row in table.rows:
        by_path.setdefault(row.path, []).append(row)
    kept, contradicting, notes = [], [], list(table.notes)
    silent = 0
    for path, rows in by_path.items():
        columns = zip(*(row.said for row in rows), strict=True)
        known = [{value for value in cells if value is not None} for cells in columns]
        patients = {written_alike(row.patient): row.patient for row in rows if row.patient}
        if any(len(values) > 1 for values in known) or len(patients) > 1:
            contradicting.append((path, ", ".join(str(row.line) for row in rows)))
        elif not any(known):
            silent += 1
        else:
            said = tuple(next(iter(values), None) for values in known)
            kept.append(replace(rows[0], said=said, patient=next(iter(patients.values()), None)))
    repeated = sum(len(rows) > 1 for rows in by_path.values()) - len(contradicting)
    if repeated:
        notes.append(f"files with several rows that agree, taken once: {repeated}")
    if silent:
        notes.append(f"files of which no finding is known, left out: {silent}")
    return replace(table, rows=tuple(kept), contradicting=tuple(contradicting), notes=tuple(notes))
