"""Finding the radiographs below a prefix of an object store, by the rules for folders."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from db.ingest import ScannedFile
from producer.archive_scan import scan_archive
from worker.errors import ImageError, XraycamError
from worker.file_names import has_image_extension, is_sidecar, printable
from worker.folder_walk import left_out_as
from worker.images.archive import has_archive_name, member_path
from worker.images.remote_archive import is_remote_archive, open_remote
from worker.our_folders import RUN_MARKER, RUN_NAME
from worker.remote.calls import cause
from worker.remote.folder import Listed, RemoteFolder
from worker.remote.urls import is_safe_key

if TYPE_CHECKING:
    from producer.scan import ScanCounts

# Of an S3 key, beyond which an index of the ledger may not hold it; S3 itself ends there.
_LONGEST = 1024


def scan_remote(
    folder: RemoteFolder,
    counts: ScanCounts,
    matches: Callable[[str, str], bool] | None,
    *,
    only: str | None = None,
    exclude: Collection[RemoteFolder] = (),
) -> Iterator[ScannedFile]:
    """Yield the images below `folder` as they are listed; none is read, so the name alone decides.

    Archives are listed by ranges. Left out, and counted, is what `scan` leaves out, of our own folders those
    called as a run's; left out without a word, what is below `exclude`. `only`: one object, whatever its
    name. Raises XraycamError where it cannot be listed.
    """
    if only is not None:
        found = folder.look_at(only)
        if is_remote_archive(only):
            yield from _members(folder, found, counts, matches)
            return
        counts.found += 1
        yield ScannedFile(only, found.size, found.identity)
        return
    ours = tuple(f"{inside}/" for place in exclude if (inside := place.inside(folder)))
    marked: dict[str, bool] = {}
    for found in folder.list():
        path = found.path
        if path.startswith(ours):
            continue
        if (not path or path.endswith("/")) and found.size == 0:
            continue  # how consoles mark a folder
        kind = _left_out(path, matches)
        if kind is None and _is_of_run(folder, path, marked):
            kind = "ours"
        if kind is not None:
            counts.skip(kind, path)
            continue
        if is_remote_archive(path):
            yield from _members(folder, found, counts, matches)
            continue
        counts.found += 1
        yield ScannedFile(path, found.size, found.identity)


def refuse_our_prefix(given: RemoteFolder) -> None:
    """Raises XraycamError for a run's prefix, and what lies in one."""
    parts = given.place.split("/")
    for place, name in enumerate(parts):
        if not place or RUN_NAME.fullmatch(name) is None:
            continue
        above = RemoteFolder(f"{given.scheme}://{'/'.join(parts[:place])}")
        if _is_of_run(above, f"{name}/", {}):
            raise XraycamError(
                f"{printable(given)} holds overlays of xraycam, and no radiographs; name the prefix of the "
                "radiographs"
            )


def _is_of_run(folder: RemoteFolder, path: str, marked: dict[str, bool]) -> bool:
    """Whether an object lies in the prefix of a run. `marked`: which are, of those looked at before; only
    what is called as a run's is looked at, since each look is a request."""
    parts = path.split("/")
    for end, name in enumerate(parts[:-1], 1):
        if RUN_NAME.fullmatch(name) is None:
            continue
        prefix = "/".join(parts[:end])
        if prefix not in marked:
            try:
                folder.look_at(f"{prefix}/{RUN_MARKER}")
                marked[prefix] = True
            except (FileNotFoundError, PermissionError):
                marked[prefix] = False
            except Exception as error:
                raise XraycamError(f"{printable(folder)} cannot be listed: {cause(error)}") from error
        if marked[prefix]:
            return True
    return False


def _members(
    folder: RemoteFolder, found: Listed, counts: ScanCounts, matches: Callable[[str, str], bool] | None
) -> Iterator[ScannedFile]:
    """The images of an archive; the archive itself where it cannot be listed, to end with its reason."""
    try:
        archive = open_remote(folder, found.path)
        if archive is None:
            return  # gone since it was listed
        shadows = {member_path(found.path, name) for name in archive.shadows}
        for member in scan_archive(archive, found.path, counts, matches, shadows.__contains__):
            counts.found += 1
            yield ScannedFile(*member)
    except ImageError:
        counts.found += 1
        yield ScannedFile(found.path, found.size, found.identity)
    finally:
        folder.opened.pop(found.path, None)


def one_object(given: RemoteFolder) -> tuple[RemoteFolder, str | None]:
    """The folder that a URL names; where it names one object, the folder that this is in, and its name."""
    place, _, name = given.place.rpartition("/")
    if not place or not (has_image_extension(name) or has_archive_name(name)):
        return given, None
    folder = RemoteFolder(f"{given.scheme}://{place}")
    try:
        folder.look_at(name)
    except Exception:
        return given, None  # listing tells what is wrong
    return folder, name


def _left_out(path: str, matches: Callable[[str, str], bool] | None) -> str | None:
    if not is_safe_key(path) or len(path.encode()) > _LONGEST:
        return "unsafe_keys"
    *folders, name = path.split("/")
    for part in folders:
        if (kind := left_out_as(part, is_folder=True)) is not None:
            return kind
    if (kind := left_out_as(name, is_folder=False)) is not None:
        return kind
    if is_remote_archive(path):
        return None
    if matches is not None:
        return None if matches(name, path) else "other_type"
    if has_image_extension(path):
        return None
    return "sidecars" if is_sidecar(path) else "other_type"
