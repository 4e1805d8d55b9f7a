"""Models of the tests of the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def newer(small_model: Path, tmp_path: Path) -> Path:
    """The small model once more, as version `newer`."""
    folder = tmp_path / "newer"
    shutil.copytree(small_model, folder)
    text = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(text | {"version": "newer"}))
    return folder
