"""Whether a model folder is what it says it is. Light: no TensorFlow here."""

from __future__ import annotations

import hashlib
from pathlib import Path

from worker.errors import ModelError
from worker.file_names import printable
from worker.model.description import DESCRIPTION_FILE, LARGEST_WEIGHTS, Description, read_description


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
    place = printable(origin or str(folder))
    model = f"model {description.version}: {place}"
    weights = description.weights
    try:
        _refuse_links(folder, model)
        if digest is not None and digest_of(folder) != digest:
            raise ModelError(
                f"{model}/{DESCRIPTION_FILE} was changed since it was published; restore or import it again"
            )
        file = folder / weights.file
        if not file.is_file():
            raise ModelError(f"{model}/{weights.file} is missing; restore or import it again")
        if file.stat().st_size > LARGEST_WEIGHTS:
            raise ModelError(f"{model}/{weights.file} has more than {LARGEST_WEIGHTS:,} bytes, the limit")
        found = sha256_of(file)
    except OSError as error:
        raise ModelError(f"{model} cannot be read: {error.strerror}; check its permissions") from error
    if found != weights.sha256:
        raise ModelError(
            f"{model}/{weights.file} is damaged: its SHA-256 is {found[:12]}..., model.json says "
            f"{weights.sha256[:12]}...; restore or import it again"
        )
    return description


def _refuse_links(folder: Path, model: str) -> None:
    """A link in a folder from elsewhere would put a file of this machine into the store."""
    for file in folder.rglob("*"):
        if file.is_symlink():
            raise ModelError(
                f"{model}/{printable(file.relative_to(folder))} is a link, which a model folder may not "
                "hold; put the file itself there"
            )
        if not (file.is_file() or file.is_dir()):
            raise ModelError(f"{model}/{printable(file.relative_to(folder))} is no file; remove it")
