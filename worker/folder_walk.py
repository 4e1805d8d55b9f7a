"""One walk over folders for whatever reads images, and one rule of what it leaves out, counted by kind."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from worker.file_names import escape_path, is_sidecar, printable
from worker.our_folders import holds, is_ours, is_room, refuse_ours

# How the kinds of what is left out are called in messages, in the order in which they are told.
KINDS = {
    "ours": "files of xraycam (its overlays, reports, figures, models and home folders)",
    "trash": "files in trash folders",
    "system": "thumbnails, caches, snapshots and other files of systems and programs",
    "hidden": "hidden files",
    "temporary": "temporary, partial or backup files",
    "masks": "masks (folders and files named as masks)",
    "dicomdir": "DICOMDIR files (lists of DICOM media)",
    "other_classes": "images in sub-folders that are no class of the model",
    "no_class": "images in no sub-folder, and so of no class",
    "sidecars": "files beside images (.csv, .json, .txt, ...)",
    "other_type": "files of other types (--glob '*' takes them all)",
    "unsafe_keys": "keys that are no path (empty, '.' or '..' parts, ?versionId=, or too long; rename them)",
    "repeated_members": "members of archives called as another file (the last of them is read)",
    "long_names": "members of archives with names too long (unpack them)",
    "external_symlinks": "links leading outside the folder",
    "names_not_utf8": "files named not in UTF-8, and as text like another (rename them)",
    "unreadable_files": "files not readable (check their permissions)",
    "unreadable_folders": "folders not readable (check their permissions)",
}

# Windows, macOS, Linux desktops, Samba, Synology, QNAP and Nextcloud, in this order.
_TRASH = re.compile(
    r"\$?recycle\.bin|recycler|recycled|\.trash(es|-\d+)?|trash|network trash folder|\.recycle|"
    r"#recycle|\.?@recycle|files_trashbin|\.deleted"
)
_SYSTEM_FOLDERS = re.compile(
    r"system volume information|found\.\d{3}|__macosx|\.spotlight-v100|\.fseventsd|\.temporaryitems|"
    r"temporary items|\.documentrevisions-v100|\.appledouble|\.appledb|\.appledesktop|lost\+found|"
    r"@eadir|@tmp|@sharebin|[#@~.]snapshots?|\.zfs|\.?@__thumb|@__qini|\.thumbnails?|\.cache|files_versions|"
    r"\.ipynb_checkpoints|__pycache__|node_modules|\.git|\.svn|\.hg|\.dvc|\.venv|\.stversions|\.sync"
)
_SYSTEM_FILES = re.compile(
    r"(eh)?thumbs(_vista)?\.db(:.*)?|desktop\.ini|\.ds_store|\._.*|icon\r|\.?picasa\.ini|\.nomedia|"
    r"synofile_thumb.*|syno(photo)?_thumb.*|.*\.(lnk|url|webloc)"
)
_TEMPORARY = re.compile(
    r"~\$.*|.*~|#.*#|.*\.(te?mp|part|partial|filepart|crdownload|opdownload|download|fbdownload|aria2|"
    r"!ut|!sync|bak|old|orig|swp|swo|lck|lock)"
)
_MASK_FOLDERS = re.compile(r"(.*[^a-z])?((left|right|manual|lungs?|lesions?|heart)[ _-]?)?masks?")
_MASK_FILES = re.compile(r".+[ _-](left|right|lungs?)?[_-]?masks?\.[a-z0-9]+")

# As long as a folder holds no more, its listing tells what it is without another look at the disk.
_LISTED_FIRST = 1000
# A folder that is left out may hold snapshots of everything: its files are counted up to here.
_MOST_COUNTED = 10_000


@dataclass
class WalkCounts:
    """How many files a walk left out, by kind (see `KINDS`), with the first of each as example."""

    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def skip(self, kind: str, path: str, count: int = 1) -> None:
        """Count `count` files at or below `path` as left out."""
        self.skipped[kind] += count
        self.examples.setdefault(kind, path if path.isprintable() else ascii(path))

    def lines(self) -> list[str]:
        """What was left out, a line for each kind: `skipped: 6 files in trash folders, such as ...`."""
        return [
            f"skipped: {_counted(self.skipped[kind], words)}, such as {self.examples[kind]}"
            for kind, words in KINDS.items()
            if self.skipped[kind]
        ]


@dataclass(frozen=True)
class FoundFile:
    """A file, or a link to one. `path` is relative to the folder walked over, as the file system names it."""

    path: str
    entry: os.DirEntry[str]


def left_out_as(name: str, *, is_folder: bool, masks: bool = False) -> str | None:
    """The kind as which a folder or file of this name is left out (see `KINDS`), or None if it is kept.

    With `masks`, what is named as a mask is kept. Sidecars are left to the caller.
    """
    low = name.lower()
    if is_folder:
        if _TRASH.fullmatch(low):
            return "trash"
        if _SYSTEM_FOLDERS.fullmatch(low):
            return "system"
        if not masks and _MASK_FOLDERS.fullmatch(low):
            return "masks"
    else:
        if _SYSTEM_FILES.fullmatch(low):
            return "system"
        if _TEMPORARY.fullmatch(low):
            return "temporary"
        if low == "dicomdir":
            return "dicomdir"
        if not masks and _MASK_FILES.fullmatch(low):
            return "masks"
    return "hidden" if name.startswith(".") else None


def walk(
    root: Path,
    counts: WalkCounts,
    *,
    exclude: Collection[str] = (),
    longest: int | None = None,
    masks: bool = False,
) -> Iterator[FoundFile]:
    """Yield the files below `root`, links to files among them, in the order the file system gives them.

    Nothing is kept in memory but the folders not yet entered. Left out, and counted in `counts`, is what
    `left_out_as` names, and folders below `root` that xraycam wrote (`our_folders`); without being counted,
    folders whose absolute path is in `exclude`. Linked folders
    are yielded as the links they are, and not entered. `longest`: bytes of a folder's relative path, escapes
    included, beyond which it counts as unreadable. Raises OSError when `root` itself cannot be read.
    """
    inside = str(root).rstrip("/") + "/"
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(inside + below) as entries:
                first = list(islice(entries, _LISTED_FIRST))
                has = holds(inside + below)
                if len(first) < _LISTED_FIRST:
                    has = {entry.name for entry in first}.__contains__
                if below and is_ours(has):
                    leave_out(counts, "ours", below, inside + below)
                    continue
                for entry in chain(first, entries):
                    path = f"{below}/{entry.name}" if below else entry.name
                    is_folder = entry.is_dir(follow_symlinks=False)
                    kind = left_out_as(entry.name, is_folder=is_folder, masks=masks)
                    if kind is None and is_folder and not below and is_room(entry.name, has):
                        kind = "ours"
                    if is_folder and inside + path in exclude:
                        continue
                    if kind is not None and is_folder:
                        leave_out(counts, kind, path, entry.path)
                    elif kind is not None:
                        counts.skip(kind, path)
                    elif not is_folder:
                        yield FoundFile(path, entry)
                    elif longest is not None and len(escape_path(path).encode()) > longest:
                        counts.skip("unreadable_folders", path)
                    else:
                        waiting.append(path)
        except OSError:
            if not below:
                raise
            counts.skip("unreadable_folders", below)


def image_files(source: Path, counts: WalkCounts | None = None) -> list[Path]:
    """`source` if it is a file, or the files below it that may be images, by name; links to files count.

    What is left out is added to `counts`. Raises OSError when `source` cannot be read, XraycamError for one
    that holds pictures of ours.
    """
    refuse_ours(source)
    if source.is_file():
        return [source]
    counts = WalkCounts() if counts is None else counts
    files = []
    for found in walk(source, counts):
        if is_sidecar(found.path):
            counts.skip("sidecars", printable(found.path))
        elif found.entry.is_file():
            files.append(source / found.path)
    return sorted(files)


def leave_out(counts: WalkCounts, kind: str, path: str, folder: str) -> None:
    """Count the files below `folder`, which is called `path`, as left out."""
    count, first = _files_below(folder, _MOST_COUNTED - counts.skipped[kind])
    if count:
        counts.skip(kind, path + first.removeprefix(folder), count)


def _files_below(folder: str, most: int) -> tuple[int, str]:
    """How many files there are below a folder, `most` at most, and one of them."""
    count, first = 0, folder
    waiting = [folder]
    while waiting and count < most:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if count >= most:
                        break
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        count += 1
                        first = entry.path if count == 1 else first
        except OSError:
            continue
    return count, first


def _counted(number: int, words: str) -> str:
    if number == 1:
        for many, one in (
            ("files", "file"),
            ("images in", "image in"),
            ("folders not", "folder not"),
            ("links", "link"),
        ):
            words = words.replace(many, one, 1)
    return f"{number}{' or more' if number >= _MOST_COUNTED else ''} {words}"
