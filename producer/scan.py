"""Finding the radiographs of a folder: one by one, so that memory does not grow with the folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path

from db.ingest import ScannedFile
from worker.errors import XraycamError
from worker.file_names import escape_path

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".dcm", ".dicom"})

# Bytes of a folder's relative path, escapes included. With a file's name, which escapes may make 1020 bytes
# long, it must fit an index of Postgres.
LONGEST_FOLDER = 1600
LARGEST = 2**63 - 1


@dataclass
class ScanCounts:
    """What a scan came across; examples are kept of what it left out, so that nothing is silent."""

    found: int = 0
    other_type: int = 0
    external_symlinks: int = 0
    names_not_utf8: int = 0
    unreadable_folders: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def skip(self, kind: str, path: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        if kind not in self.examples:
            self.examples[kind] = _shown(path)


@dataclass(frozen=True)
class Folder:
    """What to scan: a real folder, or one file in it."""

    root: Path
    only: str | None = None


def resolve_folder(given: Path) -> Folder:
    """The folder, or the file, that was named. Raises XraycamError when there is none."""
    path = given.expanduser()
    try:
        whole = path.resolve()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:
        cause = getattr(error, "strerror", None) or error
        raise XraycamError(
            f"{_shown(str(given))} cannot be read: {cause}; name a folder of images"
        ) from error
    if not _is_utf8(str(whole if is_folder else whole.parent)):
        raise XraycamError(f"{_shown(str(given))}: the name is not valid UTF-8; rename it")
    if is_folder:
        return Folder(whole)
    if is_file:
        return Folder(whole.parent, whole.name)
    raise XraycamError(f"there is no folder {given}; name an existing folder of images")


def scan(
    folder: Folder,
    counts: ScanCounts,
    *,
    globs: Sequence[str] = (),
    exclude: Collection[Path] = (),
) -> Iterator[ScannedFile]:
    """Yield the images below a folder, in the order the file system gives them.

    `globs`: patterns for the name, or for the relative path where the pattern has a slash; without any,
    the usual image extensions. Hidden files and folders, the folders in `exclude`, and links that lead
    outside are passed over; linked folders inside are found where they really are. Raises XraycamError
    when the folder itself cannot be read. What of a path is not UTF-8 becomes escapes, see `escape_path`.
    """
    if folder.only is not None:
        counts.found += 1
        yield _scanned(escape_path(folder.only), (folder.root / folder.only).stat())
        return
    excluded = {str(path) for path in exclude}
    is_wanted = _matcher(globs)
    inside = str(folder.root).rstrip("/") + "/"
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(inside + below) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith("."):
                        continue
                    path = f"{below}/{name}" if below else name
                    if entry.is_dir(follow_symlinks=False):
                        if len(escape_path(path).encode()) > LONGEST_FOLDER:
                            counts.skip("unreadable_folders", path)
                        elif inside + path not in excluded:
                            waiting.append(path)
                        continue
                    wanted = is_wanted(name, path)
                    if entry.is_symlink():
                        if (wanted or entry.is_dir()) and _leads_outside(entry, inside):
                            counts.skip("external_symlinks", path)
                            continue
                    elif not wanted:
                        counts.skip("other_type", path)
                    if not wanted or not entry.is_file():
                        continue
                    text = escape_path(path)
                    if text != path and os.path.lexists(inside + text):
                        counts.skip("names_not_utf8", path)  # another file is called so
                        continue
                    try:
                        status = entry.stat()
                    except OSError:
                        continue  # gone since the folder was listed
                    counts.found += 1
                    yield _scanned(text, status)
        except OSError as error:
            if not below:
                raise XraycamError(
                    f"{folder.root} cannot be read: {error.strerror}; check its permissions"
                ) from error
            counts.skip("unreadable_folders", below)


def _leads_outside(link: os.DirEntry[str], inside: str) -> bool:
    return not f"{os.path.realpath(link.path)}/".startswith(inside)


def _scanned(path: str, status: os.stat_result) -> ScannedFile:
    # A damaged time stamp may lie beyond what a database takes for a number.
    return ScannedFile(path, status.st_size, max(-LARGEST, min(status.st_mtime_ns, LARGEST)))


def _matcher(globs: Sequence[str]) -> Callable[[str, str], bool]:
    """Whether a file of this name and relative path is wanted."""
    if not globs:
        return lambda name, _: name[name.rfind(".") :].lower() in EXTENSIONS
    patterns = [("/" in glob, re.compile(translate(glob)).match) for glob in globs]
    return lambda name, path: any(match(path if of_path else name) for of_path, match in patterns)


def _shown(path: str) -> str:
    """A path as it can be printed in one line."""
    return path if path.isprintable() else ascii(path)


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
