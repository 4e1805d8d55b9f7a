"""Permissions of what was made for its owner alone, and is to be as private as other files."""

from __future__ import annotations

import os
from pathlib import Path


def as_umask_says(path: Path) -> None:
    """Give a file or folder the permissions that the umask leaves; some libraries always make them 0600."""
    # There is no way to look at it without setting it; for that moment, to the strictest.
    umask = os.umask(0o077)
    os.umask(umask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~umask)
