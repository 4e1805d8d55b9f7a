"""What the names of classes say."""

from __future__ import annotations

NO_FINDING = ("no finding", "no findings", "no_finding", "none", "normal", "healthy")


def is_no_finding(name: str) -> bool:
    """Whether a class of this name is that of images without a finding."""
    return name.casefold() in NO_FINDING
