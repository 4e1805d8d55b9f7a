"""Hostile archives of DICOM: each is listed and read, or refused for a reason, in little time and memory."""

from __future__ import annotations

import io
import tarfile
import time
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from producer.scan import Folder, ScanCounts, scan
from tests.support.made_dicom import JPEG_LOSSLESS, code_stream, dicom, picture
from worker.errors import ImageError
from worker.images.limits import Limits
from worker.images.reader import read_radiograph

MUTATED = 200
SECONDS = 10.0
MORE_BYTES = 300_000_000
KINDS = ("zip", "tar", "tar.gz")


def whole(kind: str) -> bytes:
    compressed = dicom(
        picture(), JPEG_LOSSLESS, frames=[code_stream(JPEG_LOSSLESS, picture())], BitsStored=12
    )
    files = {"a.dcm": dicom(picture()), "b/IM1": compressed, "b/c.dcm": dicom(picture(), BitsStored=12)}
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, content in files.items():
                packed.writestr(name, content)
    else:
        with tarfile.open(fileobj=stream, mode=f"w:{kind.partition('.')[2]}") as tape:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tape.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def mutated(content: bytes, number: int) -> bytes:
    """A few bytes changed, lengths among them, a part moved, or the end missing; half of it in the head or in
    the directory at the end."""
    random = np.random.default_rng([7, number])
    changed = bytearray(content)
    for _ in range(random.integers(1, 6)):
        place = random.integers(4)
        at = int(random.integers(len(changed)))
        if place < 2:
            at = min(at, int(random.integers(600))) if place else max(at, len(changed) - 200)
        kind = random.integers(5)
        if kind == 0:
            changed[at % len(changed)] ^= 1 << int(random.integers(8))
        elif kind == 1:
            changed[at : at + 4] = random.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"])
        elif kind == 2:
            changed[at : at + 8] = random.bytes(8)
        elif kind == 3:
            changed[at:at] = random.bytes(int(random.integers(1, 600)))
        else:
            del changed[at : at + int(random.integers(1, 600))]
    if random.random() < 0.15:
        del changed[int(random.integers(20, len(changed))) :]
    return bytes(changed)


def test_mutated_archives_of_dicom_give_images_or_reasons(tmp_path: Path) -> None:
    originals = {kind: whole(kind) for kind in KINDS}
    reasons: Counter[str] = Counter()
    tracemalloc.start()
    try:
        for number in range(MUTATED):
            kind = KINDS[number % len(KINDS)]
            folder = tmp_path / str(number)
            folder.mkdir()
            (folder / f"a.{kind}").write_bytes(mutated(originals[kind], number))
            start = time.monotonic()
            counts = ScanCounts()
            for found in scan(Folder(folder), counts):
                assert found.path.isprintable()
                try:
                    read_radiograph(folder / found.path, Limits(), folder)
                    reasons["done"] += 1
                except ImageError as error:
                    reasons[error.reason if str(error).isprintable() else "not-printable"] += 1
            assert time.monotonic() - start < SECONDS
        assert tracemalloc.get_traced_memory()[1] < MORE_BYTES
    finally:
        tracemalloc.stop()
    assert not reasons["not-printable"]
    assert reasons["done"] > 50
    assert reasons["not-an-image"] + reasons["truncated"] > 50
