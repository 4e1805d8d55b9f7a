"""Whether a model folder is what it says it is. Light: no TensorFlow here."""

from __future__ import annotations

import hashlib
from pathlib import Path

from worker.errors import ModelError
from worker.model.description import DESCRIPTION_FILE, Description, read_description


def sha256_of(file: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(folder: Path) -> str:
    """SHA-256 of a folder's model.json, which in turn holds that of the weights."""
    return sha256_of(folder / DESCRIPTION_FILE)


def check_folder(folder: Path, digest: str | None = None, *, origin: str | None = None) -> Description:
    """Read the description and check the weights' SHA-256, and with `digest` that of model.json.

    `origin`: the place to name in messages, where `folder` is but a copy.
    Raises ModelError when anything is missing or damaged.
    """
    description = read_description(folder)
    place = origin or str(folder)
    if digest is not None and digest_of(folder) != digest:
        raise ModelError(
            f"model {description.version}: {place}/{DESCRIPTION_FILE} was changed since it was published; "
            "restore or import it again"
        )
    file = folder / description.weights.file
    if not file.is_file():
        raise ModelError(
            f"model {description.version}: {place}/{description.weights.file} is missing; "
            "restore or import it again"
        )
    found = sha256_of(file)
    if found != description.weights.sha256:
        raise ModelError(
            f"model {description.version}: {place}/{description.weights.file} is damaged: its SHA-256 is "
            f"{found[:12]}..., model.json says {description.weights.sha256[:12]}...; restore or import it again"
        )
    return description
