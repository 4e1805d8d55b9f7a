"""What the names of classes and patients say, and which are one but for how they are written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

NO_FINDING = frozenset({"no finding", "no findings", "nofinding", "nofindings", "none", "normal", "healthy"})
# What programs write into a cell of which nothing is known.
MISSING = frozenset({"nan", "null", "na", "n/a", "#n/a", "<na>", "?", "-"})


def written_alike(name: str) -> str:
    """Equal for names that differ only in case, blanks, `_` or `-` between words, the form of Unicode, or as
    1 and 1.0 do."""
    plain = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
    if re.fullmatch(r"[+-]?\d{1,15}(\.\d{0,15})?", plain, re.ASCII):
        return repr(float(plain))
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", plain).replace("_", " ").strip()


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Two different names that are one but for how they are written, if there are such."""
    seen: dict[str, str] = {}
    for name in sorted(names):
        other = seen.setdefault(written_alike(name), name)
        if other != name:
            return other, name
    return None


def is_no_finding(name: str) -> bool:
    """Whether a class of this name is that of images without a finding."""
    return written_alike(name) in NO_FINDING


def is_missing(name: str) -> bool:
    """Whether a cell says, in the words of a program, that nothing is known."""
    return name.strip().casefold() in MISSING
