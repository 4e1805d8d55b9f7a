"""Small WebP pictures of a run's radiographs and overlays, read only below the run's own folders."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from db.runs import Run
from worker.errors import ImageError, XraycamError
from worker.explain.names import FULL
from worker.explain.overlay import STRIP_PIXELS, drawn_size
from worker.file_names import printable, unescape_path
from worker.images.archive import member_path, read_member, split_member_path
from worker.images.limits import Limits
from worker.images.reader import read_radiograph
from worker.images.remote_archive import remote_source
from worker.remote.folder import RemoteFolder, RemotePath, place_of
from worker.safe_files import open_beneath

QUALITY = 80
_OVERLAY_FORMATS = ("JPEG", "PNG", "WEBP")


@dataclass(frozen=True)
class Thumbnail:
    """A WebP file's content. `note`: what a reader should know of it, None: nothing."""

    content: bytes
    note: str | None = None


class RunPictures:
    """The pictures of one run, for several threads at once."""

    def __init__(self, run: Run, limits: Limits) -> None:
        self.root, self.output = _place(run.root), _place(run.output)
        self._given_root, self._given_output = run.root, run.output
        self._limits = limits
        self._accept = frozenset(run.options.get("accept") or ())
        self._side = run.options.get("overlay_side", FULL)

    def original(self, row: dict[str, Any], size: int) -> Thumbnail:
        """The radiograph of a result, in gray, its longer side `size` pixels at most.

        Raises XraycamError where it cannot be read, or lies outside the run's folder.
        """
        source = self.source(str(row["path"]))
        root = self.root if isinstance(self.root, Path) else None
        radiograph = read_radiograph(source, self._limits, root, self._accept)
        picture = radiograph.pixels
        picture.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
        changed = row["sha256"] is not None and row["sha256"] != radiograph.sha256
        note = "the file has changed since it was explained" if changed else None
        return Thumbnail(_webp(picture), note)

    def source(self, path: str) -> Path | RemotePath:
        """The file of an image by its path in the ledger, for a member of an archive `archive.zip!/x.dcm`.

        Raises ImageError outside the run's folder.
        """
        if isinstance(self.root, RemoteFolder):
            return remote_source(self.root, path)
        archive, member = self._split(path, self.root)
        file = Path(os.path.realpath(self.root / archive))
        return file if member is None else Path(member_path(str(file), member))

    def member(self, path: str) -> bytes | None:
        """The content of an image that is a member of an archive, or in an object store; None where it is
        a file.

        Raises ImageError where it cannot be read, or its archive lies outside the run's folder.
        """
        if isinstance(self.root, RemoteFolder):
            return remote_source(self.root, path).read(self._limits.max_bytes)
        archive, member = self._split(path, self.root)
        if member is None:
            return None
        shown = printable(path)
        try:
            descriptor = open_beneath(Path(os.path.realpath(self.root / archive)), self.root)
            try:
                return read_member(descriptor, member, shown, self._limits)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ImageError("unreadable", f"{shown} cannot be read: {error.strerror}") from error

    def _split(self, path: str, root: Path) -> tuple[str, str | None]:
        """A file below the run's folder, and of an archive the member."""
        way = PurePosixPath(path)
        if "\0" in path or ".." in way.parts or way.is_absolute():
            raise ImageError("outside-root", f"{printable(path)}: lies outside the folder of the run")
        found = split_member_path(path, root)
        if found is None:
            return unescape_path(str(root), path), None
        if str(PurePosixPath(found[1])) != found[1] or found[1].startswith("/"):
            raise ImageError("outside-root", f"{printable(path)}: has a name that leads out of its archive")
        return found

    def overlay(self, row: dict[str, Any], size: int) -> Thumbnail:
        """The overlay of a result: the radiograph with its heat, or all panels of a strip.

        `size`: longest side of one panel in pixels, at most. Raises XraycamError where it cannot be read.
        """
        file = self._overlay_file(row)
        if isinstance(file, RemotePath):
            return _thumbnail(io.BytesIO(file.read(self._limits.max_bytes)), file, row, self._side, size)
        assert isinstance(self.output, Path)
        try:
            with os.fdopen(open_beneath(file, self.output), "rb") as stream:
                return _thumbnail(stream, file, row, self._side, size)
        except FileNotFoundError:
            raise ImageError("missing", f"the overlay {printable(file)} is not on this machine") from None
        except OSError as error:
            raise ImageError(
                "unreadable", f"the overlay {printable(file)} cannot be read: {error}"
            ) from error

    def overlay_mark(self, row: dict[str, Any]) -> str:
        """What changes when the overlay of a result is written again; empty where that cannot be told."""
        try:
            file = self._overlay_file(row)
            if isinstance(file, RemotePath):
                return str(file.folder.look_at(file.path).identity)
            status = file.stat()
            return f"{status.st_mtime_ns}-{status.st_size}-{status.st_ino}"
        except Exception:  # of a storage's library, kinds of its own; whoever reads the overlay says why
            return ""

    def _overlay_file(self, row: dict[str, Any]) -> Path | RemotePath:
        """Raises ImageError for a URL elsewhere."""
        if isinstance(self.output, RemoteFolder):
            return self.output.named(str(row["overlay"]))
        file = Path(str(row["overlay"]))
        try:
            return self.output / file.relative_to(self._given_output)
        except ValueError:
            return Path(os.path.realpath(file))


def is_strip(row: dict[str, Any]) -> bool:
    """Whether an overlay shows several panels side by side rather than one over the radiograph."""
    return any("," in str(row[name] or "") for name in ("layer", "method", "target_class"))


def _place(given: str) -> Path | RemoteFolder:
    place = place_of(given)
    # Without links, so that any link met below has been put there.
    return Path(os.path.realpath(place)) if isinstance(place, Path) else place


def _thumbnail(stream: Any, file: object, row: dict[str, Any], side: int | str, size: int) -> Thumbnail:
    """Of the overlay in `stream`, which is called `file`. Raises ImageError."""
    try:
        picture = _decoded(stream, row, side, size)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ImageError("unreadable", f"the overlay {printable(file)} cannot be read: {error}") from error
    return Thumbnail(_webp(picture))


def _decoded(stream: Any, row: dict[str, Any], side: int | str, size: int) -> Image.Image:
    """The overlay, of a single map without what is written below it. `side`: see `drawn_size`."""
    with Image.open(stream, formats=_OVERLAY_FORMATS) as picture:
        if picture.width * picture.height > STRIP_PIXELS:
            raise ValueError(f"{picture.width} x {picture.height} pixels are more than an overlay has")
        width, height = drawn_size(row["width"] or picture.width, row["height"] or picture.height, side)
        if not is_strip(row) and picture.width == width and picture.height > height:
            picture.load()
            cut = picture.crop((0, 0, width, height)).convert("RGB")
            cut.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
            return cut
        panels = min(max(1.0, max(picture.size) / max(1, width, height)), 6.0) if is_strip(row) else 1.0
        longest = int(size * panels)
        scale = min(1.0, longest / max(picture.size))
        picture.draft("RGB", (int(picture.width * scale), int(picture.height * scale)))
        cut = picture.convert("RGB")
    cut.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return cut


def _webp(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    try:
        picture.save(buffer, "WEBP", quality=QUALITY, method=2)
    except (OSError, ValueError) as error:
        raise XraycamError(f"a picture cannot be written as WebP: {error}") from error
    return buffer.getvalue()
