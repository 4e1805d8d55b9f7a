"""Finding the radiographs of a folder: one by one, so that memory does not grow with the folder."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from db.intake import ScannedFile
from worker.errors import XraycamError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm", ".dicom"})


@dataclass
class ScanCounts:
    """What a scan came across; examples are kept of what it left out, so that nothing is silent."""

    found: int = 0
    other_type: int = 0
    links_outside: int = 0
    names_not_utf8: int = 0
    unreadable_folders: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def leave_out(self, kind: str, path: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.examples.setdefault(kind, path)


@dataclass(frozen=True)
class Folder:
    """What to scan: a real folder, or one file in it."""

    root: Path
    only: str | None = None


def resolve_folder(given: Path) -> Folder:
    """The folder, or the file, that was named. Raises XraycamError when there is none."""
    path = given.expanduser()
    if path.is_dir():
        return Folder(path.resolve())
    if path.is_file():
        whole = path.resolve()
        return Folder(whole.parent, whole.name)
    raise XraycamError(f"there is no folder {given}; name an existing folder of images")


def scan(
    folder: Folder,
    counts: ScanCounts,
    *,
    globs: Sequence[str] = (),
    left_out: Collection[Path] = (),
) -> Iterator[ScannedFile]:
    """Yield the images below a folder, in the order the file system gives them.

    `globs`: patterns for the name, or for the relative path where the pattern has a slash; without any,
    the usual image extensions. Hidden files and folders, the folders in `left_out`, and links that lead
    outside are passed over; linked folders inside are found where they really are.
    """
    root = str(folder.root)
    if folder.only is not None:
        status = (folder.root / folder.only).stat()
        counts.found += 1
        yield ScannedFile(folder.only, status.st_size, status.st_mtime_ns)
        return
    barred = {str(path) for path in left_out}
    inside = root.rstrip("/") + "/"
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            entries = os.scandir(inside + below if below else root)
        except OSError:
            counts.leave_out("unreadable_folders", below)
            continue
        with entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = f"{below}/{entry.name}" if below else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if inside + path not in barred:
                        waiting.append(path)
                    continue
                if not _is_wanted(entry.name, path, globs):
                    if not entry.is_symlink():
                        counts.leave_out("other_type", path)
                    continue
                if entry.is_symlink() and not os.path.realpath(entry.path).startswith(inside):
                    counts.leave_out("links_outside", path)
                    continue
                if not entry.is_file():
                    continue
                if not _is_utf8(path):
                    counts.leave_out("names_not_utf8", ascii(path))
                    continue
                try:
                    status = entry.stat()
                except OSError:
                    continue  # gone since the folder was listed
                counts.found += 1
                yield ScannedFile(path, status.st_size, status.st_mtime_ns)


def _is_wanted(name: str, path: str, globs: Sequence[str]) -> bool:
    if globs:
        return any(fnmatch(path if "/" in glob else name, glob) for glob in globs)
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - a Path costs ten times as much


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
