"""Images that no training may see, and images that a version was trained on."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import cache
from pathlib import Path

# As `sha256sum` writes it, of the files in producer/samples.
SAMPLES_FILE = Path(__file__).with_name("samples.sha256")
SAMPLE_REASON = "sample"


@cache
def sample_digests() -> frozenset[str]:
    """SHA-256, in hexadecimal, of the content of each sample radiograph."""
    return frozenset(line.split()[0] for line in SAMPLES_FILE.read_text(encoding="utf-8").splitlines())


# Bytes of a SHA-256 that are kept: among a million images two agree by chance with probability 0.002.
_KEPT = 6


def pack_digests(digests: Iterable[str], also: str | None = None) -> str:
    """SHA-256 digests, hexadecimal, as one text for `model.json`: 8 characters an image, base64. `also`:
    those that were packed before."""
    kept = {bytes.fromhex(one)[:_KEPT] for one in digests} | _unpacked(also or "")
    return base64.b64encode(b"".join(sorted(kept))).decode()


def _unpacked(packed: str) -> set[bytes]:
    whole = base64.b64decode(packed)
    return {whole[start : start + _KEPT] for start in range(0, len(whole), _KEPT)}


def trained_on(training: dict[str, object], digests: Iterable[str]) -> list[bool] | None:
    """For each image, whether the version with this training record learned from it.

    None where the record does not say.
    """
    return in_digests(training.get("training_images"), digests)


def in_digests(packed: object, digests: Iterable[str]) -> list[bool] | None:
    """For each of `digests` whether it is among those that `pack_digests` packed; None of what is no text."""
    if not isinstance(packed, str):
        return None
    known = _unpacked(packed)
    return [bytes.fromhex(one)[:_KEPT] in known for one in digests]
