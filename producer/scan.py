"""Finding the radiographs of a folder: one by one, so that memory does not grow with the folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

from db.ingest import ScannedFile
from producer.archive_scan import is_archive, scan_archive
from producer.remote_scan import one_object, refuse_our_prefix, scan_remote
from worker.errors import ImageError, XraycamError
from worker.file_names import escape_path, has_image_extension, is_sidecar
from worker.folder_walk import WalkCounts, walk
from worker.images.dicom import is_dicom
from worker.our_folders import refuse_ours
from worker.remote.folder import RemoteFolder

# Bytes of a folder's relative path, escapes included. With a file's name, which escapes may make 1020 bytes
# long, it must fit an index of Postgres.
LONGEST_FOLDER = 1600
LARGEST = 2**63 - 1

# Enough of a file to tell whether it is DICOM, and of what SOP class.
_PEEKED = 1024
_ANY_FOLDERS = "\ue000"  # a letter of no script, which is in no pattern
_MEDIA_DIRECTORY = b"1.2.840.10008.1.3.10"


@dataclass
class ScanCounts(WalkCounts):
    """What a scan came across, and what it left out."""

    found: int = 0


@dataclass(frozen=True)
class Folder:
    """What to scan: a real folder, or one file in it."""

    root: Path | RemoteFolder
    only: str | None = None

    def __str__(self) -> str:
        return str(self.root) if self.only is None else f"{str(self.root).rstrip('/')}/{self.only}"


def resolve_folder(given: Path | RemoteFolder) -> Folder:
    """The folder, or the file, that was named. Raises XraycamError when there is none, or where it holds
    pictures of ours."""
    if isinstance(given, RemoteFolder):
        refuse_our_prefix(given)
        return Folder(*one_object(given))
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
    refuse_ours(path)
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
    exclude: Collection[Path | RemoteFolder] = (),
) -> Iterator[ScannedFile]:
    """Yield the images below a folder, in the order the file system gives them.

    `globs`: patterns for the name, or for the relative path where the pattern has a slash, in which `*` may
    stand for several folders and `**/` for none as well; without any,
    the usual image extensions, and of the other files those whose content is DICOM. Left out are what `walk`
    leaves out, the folders in `exclude`, and links that lead outside; linked folders inside are found where
    they really are. Raises XraycamError when the folder itself cannot be read. What of a path is not UTF-8
    becomes escapes, see `escape_path`.
    """
    matches = _matcher(globs)
    if isinstance(folder.root, RemoteFolder):
        ours = [place for place in exclude if isinstance(place, RemoteFolder)]
        yield from scan_remote(folder.root, counts, matches, only=folder.only, exclude=ours)
        return
    inside = str(folder.root).rstrip("/") + "/"
    if folder.only is not None:
        file, path = inside + folder.only, escape_path(folder.only)
        if not has_image_extension(path) and _is_archive(file):
            yield from _members(file, path, counts, matches, inside)
        else:
            counts.found += 1
            yield _scanned(path, os.stat(file))  # noqa: PTH116 - a million are asked for
        return
    try:
        for found in walk(
            folder.root, counts, exclude={str(path) for path in exclude}, longest=LONGEST_FOLDER
        ):
            path, entry = found.path, found.entry
            wanted = has_image_extension(path) if matches is None else matches(entry.name, path)
            try:
                is_link = entry.is_symlink()
                if is_link and (wanted or entry.is_dir()) and _leads_outside(entry, inside):
                    counts.skip("external_symlinks", path)
                    continue
                if not has_image_extension(path) and not is_sidecar(path) and entry.is_file():
                    in_archive = _is_archive(entry.path) and not (is_link and _leads_outside(entry, inside))
                    if in_archive:
                        yield from _members(entry.path, escape_path(path), counts, matches, inside)
                        continue
                if not wanted:
                    kind = _not_dicom(entry, path, inside) if matches is None else "other_type"
                    if kind is not None:
                        if not is_link:
                            counts.skip(kind, path)
                        continue
                if not entry.is_file():
                    continue
                text = escape_path(path)
                if text != path and os.path.lexists(inside + text):
                    counts.skip("names_not_utf8", path)  # another file is called so
                    continue
                status = entry.stat()
            except OSError:
                continue  # gone since the folder was listed
            counts.found += 1
            yield _scanned(text, status)
    except OSError as error:
        raise XraycamError(
            f"{folder.root} cannot be read: {error.strerror}; check its permissions"
        ) from error


def _is_archive(file: str) -> bool:
    try:
        return is_archive(file)
    except OSError:
        return False  # told by whoever reads it


def _members(
    file: str,
    path: str,
    counts: ScanCounts,
    matches: Callable[[str, str], bool] | None,
    inside: str,
) -> Iterator[ScannedFile]:
    """The images of an archive; the archive itself where it cannot be listed, to end with its reason."""
    try:
        for member in scan_archive(
            file, path, counts, matches, lambda found: os.path.lexists(inside + found)
        ):
            counts.found += 1
            yield ScannedFile(*member)
    except (ImageError, OSError):
        counts.found += 1
        yield _scanned(path, os.stat(file))  # noqa: PTH116 - a million are asked for


def _not_dicom(entry: os.DirEntry[str], path: str, inside: str) -> str | None:
    """As what a file without an image's extension is left out (see `KINDS`); None if its content is DICOM."""
    if is_sidecar(path):
        return "sidecars"
    if not entry.is_file() or (entry.is_symlink() and _leads_outside(entry, inside)):
        return "other_type"
    try:
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return "unreadable_files"
    try:
        content = os.read(descriptor, _PEEKED)
    except OSError:
        return "unreadable_files"
    finally:
        os.close(descriptor)
    if not is_dicom(content):
        return "other_type"
    return "dicomdir" if _MEDIA_DIRECTORY in content else None


def _leads_outside(link: os.DirEntry[str], inside: str) -> bool:
    return not f"{os.path.realpath(link.path)}/".startswith(inside)


def _scanned(path: str, status: os.stat_result) -> ScannedFile:
    # A damaged time stamp may lie beyond what a database takes for a number.
    return ScannedFile(path, status.st_size, max(-LARGEST, min(status.st_mtime_ns, LARGEST)))


def _matcher(globs: Sequence[str]) -> Callable[[str, str], bool] | None:
    """Whether a file of this name and relative path is wanted; None without patterns."""
    if not globs:
        return None
    patterns = [("/" in glob, re.compile(_expression(glob)).match) for glob in globs]
    return lambda name, path: any(match(path if of_path else name) for of_path, match in patterns)


def _expression(glob: str) -> str:
    """A regular expression of a pattern, in which `**/` stands for any number of folders, none included."""
    return translate(glob.replace("**/", _ANY_FOLDERS)).replace(_ANY_FOLDERS, "(?:.*?/)??")


def _shown(path: str) -> str:
    """A path as it can be printed in one line."""
    return path if path.isprintable() else ascii(path)


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
