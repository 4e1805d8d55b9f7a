"""Members of zip and tar archives, listed and read in place: nothing is ever unpacked to the disk.

A member is called `archive.zip!/a/b.dcm`. An archive inside an archive is listed but not opened. A tar
that is compressed as a whole is read if by gzip, see `gzip_stream`; other kinds are refused.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import struct
import tarfile
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol

from worker.errors import ImageError
from worker.file_names import escape_path, printable, unescape_path
from worker.images.gzip_stream import GzipStream
from worker.images.limits import Limits

SEPARATOR = "!/"
MAX_MEMBERS = 200_000
_DIRECTORY_BYTES = 200  # of a zip's directory, for each member
_LONGEST_NAME = 1500  # bytes, so that archive and member fit an index of the ledger
_LARGEST_READ = 64_000_000  # of the headers of a tar
_KEPT_OPEN = 4
_NESTED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".jar", ".iso")
_GZIP = b"\x1f\x8b"
_COMPRESSED = (_GZIP, b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07")
# Names of what is taken for an archive whatever it holds, so that a damaged one is told.
_NAMES = (
    ".zip", ".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".tar.zst", ".7z", ".rar",
)  # fmt: skip
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, ValueError, RuntimeError, EOFError)
_END_OF_ZIP, _END_OF_ZIP64, _LOCATOR_OF_ZIP64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"


@dataclass(frozen=True)
class Member:
    """A file in an archive. `size` in bytes, not compressed; `offset`, where its header begins in a zip, its
    content in a tar. `refusal` says why it cannot be read: `encrypted`, `nested-archive`, `unsafe-name`,
    `not-a-file`, `compression` (a method that is not read), `repeated` (another of its name follows, which
    counts), or None. `name` is one line of text, whatever bytes the archive holds. `checksum`: CRC-32 of the
    content, as a zip's directory has it; None in a tar."""

    name: str
    size: int
    mtime_ns: int
    offset: int
    refusal: str | None = None
    checksum: int | None = None


def archive_kind(content: bytes) -> str | None:
    """`zip`, `tar` or `compressed` by the first 512 bytes of a file; None if it is none of these."""
    if content.startswith((b"PK\3\4", _END_OF_ZIP)):
        return "zip"
    if content[257:262] == b"ustar":
        return "tar"
    return "compressed" if content.startswith(_COMPRESSED) else None


def member_path(archive: str, member: str) -> str:
    """How a member is called in the ledger."""
    return f"{archive}{SEPARATOR}{member}"


def has_archive_name(path: str) -> bool:
    """Whether a file is, by its ending, an archive of a kind that is read or at least known."""
    return path.lower().endswith(_NAMES)


def split_member_path(path: str, root: Path) -> tuple[str, str] | None:
    """Archive and member of a path below `root`; None if it is that of a file, or of nothing.

    A file of just that name comes first, and so does the outermost archive. Escapes in the archive's name are
    undone, see `unescape_path`.
    """
    if SEPARATOR not in path or os.path.lexists(root / path):
        return None
    at = path.find(SEPARATOR)
    while at > 0:
        archive = unescape_path(str(root), path[:at])
        if os.path.isfile(root / archive):  # noqa: PTH113 - raises nothing
            return archive, path[at + len(SEPARATOR) :]
        at = path.find(SEPARATOR, at + 1)
    return None


def list_members(descriptor: int | ArchiveBytes, shown: str) -> Iterator[Member]:
    """The files in the archive opened as `descriptor`, those that cannot be read with their `refusal`.

    Folders and hidden files are passed over. Of several of one name, the last counts, as it does for those
    who unpack it; each other is `repeated`. `shown` is the archive's name in messages. Raises ImageError
    `not-an-image` for a damaged archive, `too-large` for one of too many members, `unsupported` for a kind
    that is not read.
    """
    yield from _opened(descriptor, shown).members()


def read_member(descriptor: int | ArchiveBytes, member: str, shown: str, limits: Limits) -> bytes:
    """The content of `member` of the archive opened as `descriptor`; no other member is read.

    Raises ImageError: `missing`, `too-large`, `unsupported` for one with a `refusal`,
    `truncated` for content that is cut short or damaged, and what `list_members` does; OSError where
    the archive cannot be read. `shown` is the name of archive and member in messages.
    """
    archive = _opened(descriptor, shown)
    found = archive.find(member)
    if found is None:
        raise ImageError("missing", f"{shown} is no longer in its archive; restore it and retry")
    if found.refusal is not None:
        what = {
            "encrypted": "is encrypted; unpack it with its password",
            "nested-archive": "is an archive inside an archive; unpack the outer one",
            "unsafe-name": "has a name that leads out of its archive; unpack it under another",
            "not-a-file": "is no regular file in its archive",
            "compression": "is compressed by a method other than deflate; unpack it",
        }[found.refusal]
        raise ImageError("unsupported", f"{shown} {what}")
    if found.size > limits.max_bytes:
        raise ImageError("too-large", f"{shown} has {found.size:,} bytes; the limit is {limits.max_bytes:,}")
    content = archive.read(descriptor, found, found.size, shown)
    if len(content) != found.size:
        raise ImageError("truncated", f"{shown} is cut short in its archive; copy the archive again")
    return content


def member_head(descriptor: int | ArchiveBytes, member: Member, shown: str, size: int = 1024) -> bytes:
    """The first `size` bytes of a member without refusal, or all there are; raises as `read_member` does."""
    return _opened(descriptor, shown).read(descriptor, member, min(size, member.size), shown)


class _Zip:
    """The directory of a zip, which stays open."""

    def __init__(self, stream: IO[bytes], shown: str) -> None:
        try:
            self._file = zipfile.ZipFile(stream)
        except _DAMAGED:
            raise _damaged(shown) from None
        if len(self._file.infolist()) > MAX_MEMBERS:
            raise _too_many(shown)
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self._refusals: dict[str, str] = {}
        self._repeated: list[str] = []
        for info in self._file.infolist():
            if info.is_dir():
                continue
            name, refusal = _named(info.filename)
            if name in self._infos:
                self._repeated.append(name)
            self._infos[name] = info
            if refusal is not None:
                self._refusals[name] = refusal

    def members(self) -> Iterator[Member]:
        for name in self._infos:
            found = self.find(name)
            if found is not None and not _is_hidden(name):
                yield found
        yield from _repeated(self._repeated)

    def find(self, name: str) -> Member | None:
        info = self._infos.get(name)
        if info is None:
            return None
        refusal = "encrypted" if info.flag_bits & 0x41 else self._refusals.get(name)
        if info.external_attr >> 28 not in (0, 8):  # of Unix: neither unsaid nor a regular file
            refusal = "not-a-file"
        # Python bounds what comes of a piece of deflated data, and of no other.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            refusal = refusal or "compression"
        written = _nanoseconds(info.date_time)
        return Member(name, info.file_size, written, info.header_offset, refusal, info.CRC)

    def read(self, descriptor: int | ArchiveBytes, member: Member, size: int, shown: str) -> bytes:
        try:
            with self._file.open(self._infos[member.name]) as stream:
                return stream.read(size)
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which a wrong offset gives
                raise
            raise ImageError(
                "truncated", f"{shown} is damaged in its archive; copy the archive again"
            ) from None


class _Tar:
    """Where the members of a tar begin; of one that is compressed, in what comes out of it."""

    def __init__(self, stream: io.RawIOBase, shown: str) -> None:
        self._members: dict[str, Member] = {}
        self._repeated: list[str] = []
        self._inflated = stream if isinstance(stream, GzipStream) else None
        self._reading = threading.Lock()
        count = 0
        buffered = _Bounded(stream)
        try:
            with tarfile.TarFile(fileobj=buffered) as archive:
                while (info := archive.next()) is not None:
                    archive.members = []  # type: ignore[attr-defined] # which would hold them all
                    count += 1
                    if count > MAX_MEMBERS:
                        raise _too_many(shown)
                    if not info.isdir():
                        self._add(info)
                # Where a header is damaged, or the file cut before one, tarfile ends without a word.
                buffered.seek(archive.offset)
                is_at_end = buffered.read(512) == bytes(512)
                size = buffered.seek(0, os.SEEK_END)
        except (tarfile.TarError, EOFError, ValueError, OverflowError, zlib.error):
            raise _damaged(shown) from None
        finally:
            buffered.detach()  # which would close the stream with itself
            if self._inflated is None:
                stream.close()
        if not is_at_end or any(member.offset + member.size > size for member in self._members.values()):
            raise _damaged(shown)

    def _add(self, info: tarfile.TarInfo) -> None:
        name, refusal = _named(info.name)
        if not info.isreg() or info.sparse is not None:
            refusal = "not-a-file"
        if self._members.pop(name, None) is not None:
            self._repeated.append(name)
        modified = max(-(2**62), min(int(info.mtime * 1e9), 2**62))
        self._members[name] = Member(name, info.size, modified, info.offset_data, refusal)

    def members(self) -> Iterator[Member]:
        yield from (member for name, member in self._members.items() if not _is_hidden(name))
        yield from _repeated(self._repeated)

    def find(self, name: str) -> Member | None:
        return self._members.get(name)

    def read(self, descriptor: int | ArchiveBytes, member: Member, size: int, shown: str) -> bytes:
        if self._inflated is not None:
            try:
                with self._reading:
                    self._inflated.seek(member.offset)
                    return self._inflated.read(size) or b""
            except (zlib.error, EOFError):
                raise _damaged(shown) from None
        parts = []
        at = member.offset
        while size > 0 and (part := _pread(descriptor, size, at)):
            parts.append(part)
            at, size = at + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class _Bounded(io.BufferedReader):
    """A stream of which no header is read that would fill the memory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LARGEST_READ:
            raise tarfile.ReadError("a header of too many bytes")
        return super().read(size)


class ArchiveBytes(Protocol):
    """An archive that is no file of this machine, in the place of a descriptor. `key` changes with it."""

    key: tuple[str, str, int]
    size: int

    def pread(self, size: int, offset: int) -> bytes: ...
    def stream(self) -> io.RawIOBase: ...


def _pread(source: int | ArchiveBytes, size: int, offset: int) -> bytes:
    return os.pread(source, size, offset) if isinstance(source, int) else source.pread(size, offset)


_open_archives: OrderedDict[tuple[Any, ...], _Zip | _Tar] = OrderedDict()
_lock = threading.Lock()


def _opened(descriptor: int | ArchiveBytes, shown: str) -> _Zip | _Tar:
    """The archive, whose directory is read once as long as the file does not change."""
    if isinstance(descriptor, int):
        status = os.fstat(descriptor)
        size = status.st_size
        key: tuple[Any, ...] = (status.st_dev, status.st_ino, size, status.st_mtime_ns)
    else:
        size, key = descriptor.size, descriptor.key
    with _lock:
        if key in _open_archives:
            _open_archives.move_to_end(key)
            return _open_archives[key]
        head = _pread(descriptor, 512, 0)
        kind = archive_kind(head)
        if kind == "compressed" and not head.startswith(_GZIP):
            raise ImageError(
                "unsupported",
                f"{shown}: an archive of this kind is not read; unpack it, or use zip or tar",
            )
        if kind == "zip":
            _require_small_directory(descriptor, size, shown)
            archive: _Zip | _Tar = _Zip(_buffered(descriptor), shown)
        elif kind == "tar":
            archive = _Tar(_stream(descriptor), shown)
        elif kind == "compressed" and not isinstance(descriptor, int):
            raise ImageError(
                "unsupported",
                f"{shown}: is compressed as a whole, of which no part can be read from object storage; "
                "copy it to a folder, or use zip or tar",
            )
        elif kind == "compressed":
            assert isinstance(descriptor, int)
            archive = _Tar(GzipStream(os.dup(descriptor), shown), shown)
        else:
            raise ImageError("not-an-image", f"{shown} is no archive that is read: zip, tar")
        _open_archives[key] = archive
        while len(_open_archives) > _KEPT_OPEN:
            # Closed when nobody reads from it any more.
            _open_archives.popitem(last=False)
        return archive


def _buffered(source: int | ArchiveBytes) -> IO[bytes]:
    return os.fdopen(os.dup(source), "rb") if isinstance(source, int) else io.BufferedReader(source.stream())


def _stream(source: int | ArchiveBytes) -> io.RawIOBase:
    return io.FileIO(os.dup(source), "rb") if isinstance(source, int) else source.stream()


def _require_small_directory(descriptor: int | ArchiveBytes, size: int, shown: str) -> None:
    """Look at the sizes at the end of a zip (APPNOTE 4.3.14 to 4.3.16) before its directory is read."""
    end = _pread(descriptor, 65_557, max(size - 65_557, 0))
    at = end.rfind(_END_OF_ZIP)
    if at < 0 or len(end) - at < 22:
        raise _damaged(shown)
    entries, length = struct.unpack_from("<HI", end, at + 10)
    locator = end[max(at - 20, 0) : at]
    if locator.startswith(_LOCATOR_OF_ZIP64):
        record = _pread(descriptor, 56, min(struct.unpack_from("<Q", locator, 8)[0], size))
        if len(record) == 56 and record.startswith(_END_OF_ZIP64):
            entries, length = struct.unpack_from("<QQ", record, 32)
    if entries > MAX_MEMBERS or length > MAX_MEMBERS * _DIRECTORY_BYTES:
        raise _too_many(shown)


def _named(raw: str) -> tuple[str, str | None]:
    """The path as in the ledger, and why it is refused; archives made on Windows may have its separators."""
    name = escape_path(raw.replace("\\", "/") if "/" not in raw else raw)
    while name.startswith("./"):
        name = name[2:]
    refusal = _refusal(name)
    if refusal == "unsafe-name":
        name = printable(name)
        if len(name.encode()) > _LONGEST_NAME:
            name = f"{name[:200]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return name, refusal


def _repeated(names: list[str]) -> Iterator[Member]:
    return (Member(name, 0, 0, 0, "repeated") for name in names if not _is_hidden(name))


def _refusal(name: str) -> str | None:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "" in parts or "." in parts or name[1:2] == ":":
        return "unsafe-name"
    if len(name.encode()) > _LONGEST_NAME or not name.isprintable():
        return "unsafe-name"
    return "nested-archive" if name.lower().endswith(_NESTED) else None


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def _nanoseconds(date: tuple[int, int, int, int, int, int]) -> int:
    """A time of a zip, which knows no zones: as if of UTC, so that every machine sees the same."""
    try:
        return int(datetime(*date, tzinfo=UTC).timestamp()) * 1_000_000_000
    except ValueError:
        return 0


def _damaged(shown: str) -> ImageError:
    return ImageError("not-an-image", f"{shown}: the archive is damaged or cut short; copy it again")


def _too_many(shown: str) -> ImageError:
    return ImageError(
        "too-large", f"{shown}: the archive has more than {MAX_MEMBERS:,} members; split it or unpack it"
    )
