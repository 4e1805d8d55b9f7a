"""Images that no training may see: the sample radiographs that ship with the package."""

from __future__ import annotations

from functools import cache
from pathlib import Path

# As `sha256sum` writes it, of the files in producer/samples.
SAMPLES_FILE = Path(__file__).with_name("samples.sha256")
SAMPLE_REASON = "sample"


@cache
def sample_digests() -> frozenset[str]:
    """SHA-256, in hexadecimal, of the content of each sample radiograph."""
    return frozenset(line.split()[0] for line in SAMPLES_FILE.read_text(encoding="utf-8").splitlines())
