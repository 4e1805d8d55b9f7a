"""Numbers with their nouns: one image, two images."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 image`, `2 images`: the noun is given for one, and takes an s for several."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
