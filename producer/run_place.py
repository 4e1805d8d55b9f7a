"""Where a run's overlays go: a folder, or a prefix of an object store, checked and then made its own."""

from __future__ import annotations

import json
from pathlib import Path

from db.runs import Run
from producer.session import check_output_dir, ensure_output_dir
from worker.errors import XraycamError
from worker.file_names import printable
from worker.remote.folder import RemoteFolder, place_of

# The object that makes a prefix a run's own, as its folder is on a disk.
MARKER = "xraycam-run.json"


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
    """Make the folder, or the prefix, that a new run writes to.

    Raises FileExistsError where it is that of another ledger's run; OSError or XraycamError where it cannot
    be written.
    """
    place = place_of(run.output)
    if isinstance(place, Path):
        place.mkdir()
    else:
        place.claim(MARKER, json.dumps({"run": run.id}).encode())
