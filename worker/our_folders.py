"""Folders that xraycam wrote: no picture in them is a radiograph, wherever they lie and whatever their name.

A run's folder, a report and a folder of figures hold a marker; a home and a model version show by what they
hold. Folders of radiographs, such as those fetched or received, and exported labels, are none of these.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

from worker.errors import XraycamError
from worker.file_names import printable

RUN_MARKER = "xraycam-run.json"
REPORT_MARKER = "xraycam-report.json"
OUTPUT_MARKER = "xraycam-output.json"
_MARKERS = frozenset({RUN_MARKER, REPORT_MARKER, OUTPUT_MARKER})
_VERSION_FILES = frozenset({"model.json", "weights.safetensors"})
_HOME_FILES = frozenset({"ledger.sqlite3", "identity.key"})
# What we keep in a home, but for `spool`, which holds radiographs.
_ROOMS = frozenset(
    {
        "overlays", "reports", "models", "model-cache", "evaluations", "calibrations", "rankings",
        "comparisons", "sanity", "trainings", "logs", "warm", "keras",
    }
)  # fmt: skip
# How `db.runs.open_run` calls the folder of a run.
RUN_NAME = re.compile(r"run-\d{6,}")


def is_home(has: Callable[[str], bool]) -> bool:
    """Whether a folder is a home of xraycam; `has` says whether it holds what is called so."""
    return any(map(has, _HOME_FILES)) and any(map(has, ("overlays", "models", "logs")))


def is_ours(has: Callable[[str], bool]) -> bool:
    """Whether a folder was written by xraycam; `has` as for `is_home`."""
    return any(map(has, _MARKERS)) or all(map(has, _VERSION_FILES)) or is_home(has)


def holds(folder: Path | str) -> Callable[[str], bool]:
    """`has` of a folder on the disk."""
    return lambda name: os.path.lexists(f"{folder}/{name}")


def is_room(name: str, has: Callable[[str], bool]) -> bool:
    """Whether a sub-folder of this name holds what xraycam wrote, because the folder is a home."""
    return name in _ROOMS and is_home(has)


def our_folders(files: Iterable[str]) -> tuple[str, ...]:
    """Of the relative paths of files, as an archive lists them, the folders that are ours, each with a slash
    at its end; the empty one is that which all lie in."""
    held: defaultdict[str, set[str]] = defaultdict(set)
    telling = _MARKERS | _VERSION_FILES | _HOME_FILES
    for file in files:
        *folders, name = file.split("/")
        if name in telling:
            held["/".join(folders)].add(name)
        for place, folder in enumerate(folders):
            if folder in _ROOMS:
                held["/".join(folders[:place])].add(folder)
    ours = [folder for folder, names in held.items() if is_ours(names.__contains__)]
    return tuple(f"{folder}/" if folder else "" for folder in ours)


def refuse_ours(given: Path) -> None:
    """Raises XraycamError for a folder or file that is, or lies in, a run's folder, a report or a folder of
    figures: what is there are pictures of ours. A home may be named, as may what else lies in it."""
    whole = Path(os.path.realpath(given))
    for folder in (whole, *whole.parents):
        marker = next((name for name in sorted(_MARKERS) if holds(folder)(name)), None)
        if marker is not None:
            raise XraycamError(
                f"{printable(given)} holds what xraycam wrote (overlays, reports, figures), no radiographs; "
                f"name the folder of these, or delete {printable(folder / marker)} if they are there"
            )
