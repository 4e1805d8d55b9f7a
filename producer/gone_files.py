"""Images of a run that a scan of its folder did not come across: are their files gone?"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from db.gone_files import IdSet, images_between
from db.ledger import Ledger
from worker.errors import ImageError, XraycamError
from worker.file_names import unescape_path
from worker.images.archive import SEPARATOR, list_members, split_member_path
from worker.images.remote_archive import archive_of, open_remote
from worker.remote.folder import RemoteFolder
from worker.remote.urls import is_remote

_BATCH = 5000
_KEPT_LISTS = 4  # of archives, whose images mostly follow each other


def gone_images(ledger: Ledger, run_id: int, root: str, seen: IdSet, last: int) -> Iterator[list[int]]:
    """Numbers of images of a run, up to `last` and not in `seen`, whose files are no more, in batches.

    A file that cannot be looked at, such as in a folder that is not readable, is not taken for gone, nor is a
    member of an archive that is there but cannot be listed now.
    """
    after = 0
    archives = _MemberNames()
    remote = RemoteFolder(root) if is_remote(root) else None
    while True:
        found = ledger.query(images_between, run_id, after, last, _BATCH)
        if not found:
            return
        unseen = {path: key for key, path in found if key not in seen}
        if remote is not None:
            gone = [unseen[path] for path in _gone_objects(remote, unseen)]
        else:
            gone = [key for path, key in unseen.items() if _is_gone(root, path, archives)]
        if gone:
            yield gone
        after = found[-1][0]


def _gone_objects(folder: RemoteFolder, paths: Collection[str]) -> Iterator[str]:
    by_archive: dict[str, list[str]] = {}
    for path in paths:
        by_archive.setdefault(archive_of(path) or "", []).append(path)
    yield from folder.missing(by_archive.pop("", ()))
    for archive, members in by_archive.items():
        try:
            opened = open_remote(folder, archive)
            names = None if opened is None else {member.name for member in list_members(opened, archive)}
        except XraycamError:
            continue  # it is there, as far as can be said
        finally:
            folder.opened.pop(archive, None)
        if names is None:
            names = set() if list(folder.missing([archive])) else None
        if names is not None:
            inside = len(archive) + len(SEPARATOR)
            yield from folder.missing([path for path in members if path[inside:] not in names])


class _MemberNames:
    """The names in archives, each listed once as long as others do not displace it."""

    def __init__(self) -> None:
        self._listed: OrderedDict[str, frozenset[str] | None] = OrderedDict()

    def of(self, archive: str) -> frozenset[str] | None:
        """The members of an archive; None where it cannot be listed."""
        if archive in self._listed:
            self._listed.move_to_end(archive)
            return self._listed[archive]
        names = self._listed[archive] = _list_names(archive)
        if len(self._listed) > _KEPT_LISTS:
            self._listed.popitem(last=False)
        return names


def _list_names(archive: str) -> frozenset[str] | None:
    with suppress(OSError, ImageError):
        descriptor = os.open(archive, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return frozenset(member.name for member in list_members(descriptor, archive))
        finally:
            os.close(descriptor)
    return None


def _is_gone(root: str, path: str, archives: _MemberNames) -> bool:
    if (member := split_member_path(path, Path(root))) is not None:
        names = archives.of(os.path.join(root, member[0]))  # noqa: PTH118 - a million are asked for
        return names is not None and member[1] not in names
    try:
        status = Path(root, unescape_path(root, path)).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return stat.S_ISDIR(status.st_mode)
