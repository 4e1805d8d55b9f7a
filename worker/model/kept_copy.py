"""This machine's checked copies of model versions: where they lie, and what light commands read of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.settings import Settings

METADATA_FILE = "model.json"


def copies_folder(settings: Settings) -> Path:
    """The folder of all copies."""
    return settings.home / "model-cache"


def copy_folder(copies: Path, version: str, digest: str) -> Path:
    """The copy of the version whose model.json has this SHA-256."""
    return copies / f"{version}-{digest[:12]}"


def training_facts(settings: Settings, version: str, digest: str) -> dict[str, Any] | None:
    """What a version's model.json says of its training; None without a copy of just this content here."""
    try:
        content = (copy_folder(copies_folder(settings), version, digest) / METADATA_FILE).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != digest:
        return None
    found = json.loads(content).get("training", {})
    return found if isinstance(found, dict) else None
