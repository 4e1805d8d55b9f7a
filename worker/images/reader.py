"""From a file to 8-bit gray pixels, or to the one reason why not."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from worker.errors import ImageError
from worker.file_names import printable
from worker.images.archive import archive_kind, list_members, read_member, split_member_path
from worker.images.dicom import DicomFacts, decode_dicom, is_dicom
from worker.images.limits import Limits
from worker.images.our_overlays import is_overlay
from worker.images.raster import decode_raster
from worker.remote.folder import RemotePath
from worker.safe_files import open_beneath, raise_if_source_unavailable

if TYPE_CHECKING:
    from worker.settings import Settings


def limits_of(settings: Settings) -> Limits:
    """The limits that the settings name."""
    return Limits(max_pixels=settings.max_pixels, max_bytes=settings.max_bytes)


@dataclass(frozen=True)
class Radiograph:
    """A decoded image. `pixels` is a loaded Pillow image of mode L, upright, `width` x `height`, or smaller
    where all of it is not needed.
    `dicom`: what the header of a DICOM file says, None for other files."""

    pixels: Image.Image
    width: int
    height: int
    sha256: str
    dicom: DicomFacts | None = None


def read_radiograph(
    file: Path | RemotePath, limits: Limits, root: Path | None = None, accept: frozenset[str] = frozenset()
) -> Radiograph:
    """Read `file` once, hash its content (SHA-256, hexadecimal) and decode it to 8-bit gray.

    A file called `archive.zip!/a/b.dcm` is a member of an archive, which is read in place, see `archive`.
    With `root`, a real folder, no file is read that lies outside, nor through a link.
    What becomes of colour, depth, orientation and several pages: see `raster.decode_raster`. Of DICOM,
    frontal radiographs of the chest are read and what `accept` adds to them, see `decode_dicom`.
    Raises ImageError for every file that cannot be explained, StorageError if nothing below `root` can be
    read now, and nothing else.
    """
    shown = printable(file)
    if isinstance(file, RemotePath):
        content = _checked(file.read(limits.max_bytes), shown)
    else:
        content = _checked(_content(file, shown, limits, root), shown)
    if is_dicom(content):
        decoded = decode_dicom(content, shown, limits, accept)
        return Radiograph(decoded.pixels, *decoded.size, hashlib.sha256(content).hexdigest(), decoded.facts)
    if is_overlay(content):
        raise ImageError(
            "not-radiograph", f"{shown} is an overlay of xraycam; explain the image that it was drawn of"
        )
    pixels = decode_raster(content, shown, limits, accept)
    return Radiograph(pixels, pixels.width, pixels.height, hashlib.sha256(content).hexdigest())


def _content(file: Path, shown: str, limits: Limits, root: Path | None) -> bytes:
    try:
        archive, member = split_member_path(str(file), Path("/")) or (file, None)
        with os.fdopen(open_beneath(Path(archive), root), "rb", buffering=0) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("unreadable", f"{shown} is not a regular file")
            if member is None and archive_kind(os.pread(stream.fileno(), 512, 0)) is not None:
                for _ in list_members(stream.fileno(), shown):  # raises where it is damaged
                    break
                raise ImageError(
                    "unsupported",
                    f"{shown} is an archive; 'run' and 'enqueue' read the images in it, else unpack it",
                )
            if member is not None:
                content = read_member(stream.fileno(), member, shown, limits)
            elif status.st_size > limits.max_bytes:
                raise ImageError(
                    "too-large", f"{shown} has {status.st_size:,} bytes; the limit is {limits.max_bytes:,}"
                )
            else:
                content = _read_all(stream.fileno(), status.st_size)
    except FileNotFoundError as error:
        if root is not None:
            raise_if_source_unavailable(root, error)
        raise ImageError("missing", f"{shown} is no longer there; restore it and retry") from None
    except PermissionError:
        raise ImageError(
            "unreadable", f"{shown} may not be read by this user; check its permissions"
        ) from None
    except (OSError, ValueError) as error:
        if root is not None and isinstance(error, OSError):
            raise_if_source_unavailable(root, error)
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ImageError("unreadable", f"{shown} cannot be read: {reason}") from error
    return content


def _checked(content: bytes, shown: str) -> bytes:
    if not content:
        raise ImageError("empty", f"{shown} is empty (0 bytes); copy it again from its source")
    return content


def _read_all(descriptor: int, size: int) -> bytes:
    """`size` bytes, or what there is: a file that grows meanwhile is cut, one that shrinks is short."""
    parts = []
    while size > 0 and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
