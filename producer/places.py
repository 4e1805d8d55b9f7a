"""Where results are to be written: looked at before the work, not after it."""

from __future__ import annotations

import os
from pathlib import Path

from worker.errors import XraycamError


def output_folder(given: Path) -> Path:
    """The folder, absolute, made if need be. Raises XraycamError when nothing can be written there."""
    folder = given.expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise XraycamError(
            f"{given} cannot be made a folder for output: {error.strerror}; name another place"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise XraycamError(f"{given} cannot be written to; name another place, or change its permissions")
    return folder


def output_file(given: Path) -> Path:
    """The file, absolute, its folder made if need be. Raises XraycamError when it cannot be written."""
    file = given.expanduser().absolute()
    output_folder(file.parent)
    if file.is_dir() or (file.exists() and not os.access(file, os.W_OK)):
        raise XraycamError(f"{given} cannot be written; name another file")
    return file
