"""Finding the radiographs below a prefix of an object store, by the rules for folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from db.ingest import ScannedFile
from worker.file_names import has_image_extension, is_sidecar
from worker.folder_walk import left_out_as
from worker.images.archive import has_archive_name
from worker.remote import RemoteFolder, is_safe_key

if TYPE_CHECKING:
    from producer.scan import ScanCounts

# Of an S3 key, beyond which an index of the ledger may not hold it; S3 itself ends there.
_LONGEST = 1024


def scan_remote(
    folder: RemoteFolder, counts: ScanCounts, matches: Callable[[str, str], bool] | None
) -> Iterator[ScannedFile]:
    """Yield the images below `folder` as they are listed; no object is read, so the name alone decides.

    Left out, and counted, is what `scan` leaves out, and archives. Raises XraycamError where it cannot be
    listed.
    """
    for found in folder.list():
        path = found.path
        if (not path or path.endswith("/")) and found.size == 0:
            continue  # how consoles mark a folder
        kind = _left_out(path, matches)
        if kind is not None:
            counts.skip(kind, path)
            continue
        counts.found += 1
        yield ScannedFile(path, found.size, found.identity)


def _left_out(path: str, matches: Callable[[str, str], bool] | None) -> str | None:
    if not is_safe_key(path) or len(path.encode()) > _LONGEST:
        return "unsafe_keys"
    *folders, name = path.split("/")
    for part in folders:
        if (kind := left_out_as(part, is_folder=True)) is not None:
            return kind
    if (kind := left_out_as(name, is_folder=False)) is not None:
        return kind
    if not has_image_extension(path) and has_archive_name(path):
        return "remote_archives"
    if matches is not None:
        return None if matches(name, path) else "other_type"
    if has_image_extension(path):
        return None
    return "sidecars" if is_sidecar(path) else "other_type"
