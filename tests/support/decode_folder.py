"""Decodes the DICOM files of a folder and prints what became of each: `decode_folder.py FOLDER BYTES`, where
BYTES is what the process may take beyond what it takes at its start."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from pathlib import Path

from worker.errors import ImageError
from worker.images.dicom import decode_dicom, is_dicom
from worker.images.limits import Limits


def main(folder: Path, more_bytes: int) -> None:
    logging.basicConfig(level=logging.DEBUG)
    files = sorted(folder.iterdir())
    outcome(files[0])  # loads what there is to load
    if sys.platform == "linux":
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + more_bytes, held + more_bytes))
    before, found = memory(), {}
    for file in files:
        start = time.monotonic()
        reason, said = outcome(file)
        found[file.name] = [reason, said, time.monotonic() - start]
    print(json.dumps({"outcomes": found, "bytes": memory() - before}))


def outcome(file: Path) -> tuple[str | None, str]:
    content = file.read_bytes()
    if not is_dicom(content):
        return "not-dicom", ""
    accept = frozenset({"multi-frame"}) if "frames" in file.name else frozenset()
    try:
        image = decode_dicom(content, file.name, Limits(), accept)
    except ImageError as error:
        return error.reason, str(error)
    assert image.pixels.mode == "L"
    assert image.pixels.size == image.size
    return None, image.facts.rendering


def memory() -> int:
    """The most memory this process has held so far, bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # where the other number begins with that of the parent
        held = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(held.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
