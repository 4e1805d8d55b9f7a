"""Where a run's overlays go: a folder, or a prefix of an object store, checked and then made its own."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from db.runs import Run
from producer.session import check_output_dir, ensure_output_dir
from worker.errors import XraycamError
from worker.file_names import printable
from worker.our_folders import RUN_MARKER
from worker.remote.folder import RemoteFolder, place_of


def check_place(place: Path | RemoteFolder) -> None:
    """Raises XraycamError where nothing can be written, as far as that can be said without writing."""
    if isinstance(place, Path):
        check_output_dir(place)
        return
    if place.is_web:
        raise XraycamError(
            f"--output {printable(place)}: a web server is only read; name a folder, or s3://BUCKET/PREFIX"
        )
    try:
        next(place.list(), None)
    except XraycamError as error:
        # Who may write need not be allowed to list; and an empty prefix is missing, but in S3. Writing tells.
        unsure = PermissionError if place.scheme == "s3" else (PermissionError, FileNotFoundError)
        if not isinstance(error.__cause__, unsure):
            raise


def ensure_place(place: Path | RemoteFolder) -> None:
    """Make a folder that is not there. Raises XraycamError where nothing can be written."""
    if isinstance(place, Path):
        ensure_output_dir(place)


def make_run_place(run: Run) -> None:
    """Make the folder, or the prefix, that a new run writes to, with the marker that tells its pictures from
    radiographs, and makes a prefix the run's own.

    Raises FileExistsError where it is that of another ledger's run; OSError or XraycamError where it cannot
    be written.
    """
    place = place_of(run.output)
    content = json.dumps({"run": run.id})
    if isinstance(place, RemoteFolder):
        place.claim(RUN_MARKER, content.encode())
        return
    place.mkdir()
    try:
        (place / RUN_MARKER).write_text(content + "\n", encoding="utf-8")
    except OSError:
        with suppress(OSError):
            (place / RUN_MARKER).unlink(missing_ok=True)
            place.rmdir()
        raise
