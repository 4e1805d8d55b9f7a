"""Finding the radiographs in an archive: its members, taken as the files of a folder are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from worker.errors import ImageError
from worker.file_names import has_image_extension, is_sidecar
from worker.folder_walk import WalkCounts, left_out_as
from worker.images.archive import (
    ArchiveBytes,
    Member,
    archive_kind,
    has_archive_name,
    list_members,
    member_head,
    member_path,
)
from worker.images.dicom import is_dicom
from worker.our_folders import our_folders

# Bytes of a path, archive and member together, escapes included, that fit an index of Postgres.
_LONGEST_PATH = 2600
_PEEKED = 1024
_MEDIA_DIRECTORY = b"1.2.840.10008.1.3.10"


class FoundMember(NamedTuple):
    """An image of an archive; `path` as in the ledger: `archive.zip!/a/b.dcm`, `size` in bytes, `identity` a
    number of 63 bits, another once the content may be another."""

    path: str
    size: int
    identity: int


def is_archive(file: str) -> bool:
    """Whether a file is, by name or by content, an archive whose members are looked for. Raises OSError.

    What is compressed and not named as an archive, as a table may be, is none.
    """
    if has_archive_name(file):
        return True
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return archive_kind(os.read(descriptor, 512)) in ("zip", "tar")
    finally:
        os.close(descriptor)


def scan_archive(
    file: str | ArchiveBytes,
    path: str,
    counts: WalkCounts,
    matches: Callable[[str, str], bool] | None,
    is_file: Callable[[str], bool],
) -> Iterator[FoundMember]:
    """Yield the images in the archive `file`, which the ledger calls `path`.

    What the names of folders and files tell is left out and counted as in a folder; members without an
    image's extension are taken if their content is DICOM, those that cannot be read are taken too, so that
    each ends with its reason. `matches`: of name and path, whether a member is wanted, None: no patterns.
    `file`: a path, or the bytes of one elsewhere. `is_file`: whether a path is that of a file, which comes
    before a member. Raises ImageError for an archive
    that cannot be listed, OSError where it cannot be read.
    """
    with closing(_Opened(file)) as opened:
        ours = our_folders(member.name for member in list_members(opened.descriptor, path))
        for member in list_members(opened.descriptor, path):
            found = member_path(path, member.name)
            is_ours = member.name.startswith(ours)
            kind = "ours" if is_ours else _left_out(member, found, opened.descriptor, matches)
            if kind is None and len(found.encode()) > _LONGEST_PATH:
                kind = "long_names"
            if kind is None and is_file(found):
                kind = "repeated_members"
            if kind is not None:
                counts.skip(kind, found)
            else:
                yield FoundMember(found, member.size, _identity(member, opened.descriptor))


def _identity(member: Member, archive: int | ArchiveBytes) -> int:
    """Exports write constant names, sizes and times. A zip has a checksum of each member; of a tar that was
    written anew, any may be another."""
    content: tuple[object, ...]
    if member.checksum is not None:
        content = (member.checksum, member.mtime_ns)
    elif isinstance(archive, int):
        status = os.fstat(archive)
        content = (status.st_size, status.st_mtime_ns)
    else:
        content = archive.key[1:]
    return int.from_bytes(hashlib.sha256(repr(content).encode()).digest()[:8], "big") >> 1


class _Opened:
    def __init__(self, file: str | ArchiveBytes) -> None:
        self.descriptor: int | ArchiveBytes
        if isinstance(file, str):
            self.descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        else:
            self.descriptor = file

    def close(self) -> None:
        if isinstance(self.descriptor, int):
            os.close(self.descriptor)


def _left_out(
    member: Member, path: str, descriptor: int | ArchiveBytes, matches: Callable[[str, str], bool] | None
) -> str | None:
    *folders, name = member.name.split("/")
    if member.refusal == "repeated":
        return "repeated_members"
    for folder in folders:
        if folder not in ("", ".", "..") and (kind := left_out_as(folder, is_folder=True)):
            return kind
    kind = left_out_as(name, is_folder=False)
    if kind is not None:
        return kind
    if matches is not None:
        return None if matches(name, path) else "other_type"
    if has_image_extension(name):
        return None
    if is_sidecar(name):
        return "sidecars"
    if member.refusal is not None:
        return None
    try:
        content = member_head(descriptor, member, path, _PEEKED)
    except ImageError:
        return None  # a damaged member is told by whoever reads it
    if not is_dicom(content):
        return "other_type"
    return "dicomdir" if _MEDIA_DIRECTORY in content else None
