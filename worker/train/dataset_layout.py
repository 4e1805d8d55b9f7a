"""How a labelled folder must look: a sub-folder of images for each class. Checked without reading images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from worker.class_names import alike, is_no_finding
from worker.errors import XraycamError
from worker.file_names import has_image_extension, printable
from worker.folder_walk import WalkCounts, image_files, leave_out, left_out_as
from worker.our_folders import holds, is_ours, is_room, refuse_ours

_SPLIT = re.compile(
    r"(train|training|val|valid|validation|test|testing|dev|holdout|hold[ _-]out)"
    r"([ _-]?(set|data|images|split))?"
    r"|(fold|split|cv|part)s?[ _-]?\d*"
)


class DatasetError(XraycamError):
    """Raised when a labelled folder cannot be trained or measured on."""


def class_names(
    folder: Path,
    wanted: Sequence[str] | None = None,
    *,
    what: str = "",
    counts: WalkCounts | None = None,
    findings: bool = False,
) -> tuple[str, ...]:
    """The classes of `folder`, its sub-folders by name, or those `wanted`, which must be there.

    What `left_out_as` names is no class, nor is a folder that xraycam wrote; both are added to `counts`, and
    so are images in no sub-folder, or in one that is not `wanted`. `findings`: images of none are wanted too.
    `what` is what messages call the folder. Raises DatasetError for no folder, one that holds pictures of
    ours, fewer than two classes, two whose names differ in case or blanks alone, and sub-folders that are
    parts of a data set.
    """
    shown = f"{what} {printable(folder)}".strip()
    if not folder.is_dir():
        raise DatasetError(f"{shown}: there is no such folder; give one that has a sub-folder for each class")
    try:
        refuse_ours(folder)
    except XraycamError as error:
        raise DatasetError(f"{what} {error}".strip()) from None
    present = []
    for entry in folder.iterdir():
        if not entry.is_dir():
            if counts is not None and has_image_extension(entry.name):
                counts.skip(left_out_as(entry.name, is_folder=False) or "no_class", printable(entry.name))
            continue
        kind = left_out_as(entry.name, is_folder=True)
        if kind is None and (is_ours(holds(entry)) or is_room(entry.name, holds(folder))):
            kind = "ours"
        if kind is None:
            present.append(entry.name)
        elif kind == "ours" and counts is not None:
            leave_out(counts, kind, printable(entry.name), str(entry))
        elif counts is not None:
            counts.skip(kind, printable(entry.name), max(1, len(image_files(entry))))
    present.sort()
    if (pair := alike(present)) is not None:
        raise DatasetError(
            f"{shown}: the sub-folders {printable(pair[0])!r} and {printable(pair[1])!r} differ only in how "
            "they are written; make them one"
        )
    missing = [name for name in wanted or () if name not in present]
    parts = [name for name in present if _SPLIT.fullmatch(name.lower())]
    if parts and (wanted is None or missing):
        raise DatasetError(f"{shown}: {_parts_advice(folder, parts)}")
    if missing:
        raise DatasetError(
            f"{shown} has no images of {', '.join(missing)}: no such sub-folder; "
            f"it has {', '.join(present) or 'none'}"
        )
    if wanted is not None:
        if counts is not None:
            used = [name for name in present if name in wanted or (findings and is_no_finding(name))]
            _count_unused(folder, [name for name in present if name not in used], counts)
        return tuple(wanted)
    if len(present) < 2:
        found = f"one sub-folder, {printable(present[0])}" if present else "no sub-folder"
        raise DatasetError(
            f"{shown} has {found}; put the images of each class into a sub-folder of its own, two classes "
            "or more"
        )
    return tuple(present)


def _count_unused(folder: Path, names: Sequence[str], counts: WalkCounts) -> None:
    for name in names:
        with suppress(OSError):  # nobody asks for what is in it
            files = image_files(folder / name)
            if files:
                counts.skip("other_classes", printable(files[0].relative_to(folder)), len(files))


def class_files(folder: Path, name: str, counts: WalkCounts | None = None) -> list[Path]:
    """The files of the class `name` that may be images, by name; what is left out is added to `counts`.

    Raises DatasetError for a folder that cannot be read.
    """
    within = WalkCounts()
    try:
        files = image_files(folder / name, within)
    except OSError as error:
        raise DatasetError(
            f"{printable(folder / name)} cannot be read: {error.strerror}; check its permissions"
        ) from error
    if counts is not None:
        for kind, count in within.skipped.items():
            counts.skip(kind, f"{printable(name)}/{within.examples[kind]}", count)
    return files


def _parts_advice(folder: Path, parts: Sequence[str]) -> str:
    shown = ", ".join(printable(part) for part in parts)
    train = next((part for part in parts if part.lower().startswith("train")), parts[0])
    test = next((part for part in parts if part.lower().startswith("test")), None)
    advice = f"name {printable(folder / train)}"
    if test is not None:
        advice += (
            f" to train, with --test {printable(folder / test)}, or {printable(folder / test)} to evaluate"
        )
    are = (
        "is a part of a data set, not a class" if len(parts) == 1 else "are parts of a data set, not classes"
    )
    return f"its sub-folder{'' if len(parts) == 1 else 's'} {shown} {are}; {advice}"
