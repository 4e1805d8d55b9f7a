"""Hostile DICOM files: each is a picture or refused for a reason, in little time and bounded memory."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.made_dicom import (
    DEFLATED,
    EXPLICIT,
    HTJ2K,
    IMPLICIT,
    JPEG,
    JPEG_12,
    JPEG_2000,
    JPEG_LOSSLESS,
    JPEG_LS,
    RLE,
    code_stream,
    dicom,
    elements,
    lut,
    picture,
    written,
)

pytestmark = pytest.mark.slow

REASONS = {
    "truncated", "not-an-image", "too-small", "too-large", "unsupported", "not-radiograph", "not-chest",
    "not-frontal", "for-processing", "multi-frame", "no-pixels", "not-dicom", "no-contrast",
}  # fmt: skip
MUTATED = 240
MORE_BYTES = 1_500_000_000
SECONDS = 20.0  # of XRAYCAM_IMAGE_SECONDS, 60

EMPTY_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
NO_LENGTH = 0xFFFFFFFF


def originals() -> list[bytes]:
    tags: dict[str, Any] = {
        "VOILUTSequence": [lut(list(range(4096)), 0, 12)],
        "ModalityLUTSequence": [lut(list(range(4096)), 0, 16)],
        "WindowCenter": [2048, 100],
        "WindowWidth": [4096, 50],
        "PixelPaddingValue": 0,
        "PixelAspectRatio": [1, 1],
        "PatientOrientation": ["L", "F"],
        "NumberOfFrames": 1,
        "BitsStored": 12,
    }
    values = picture()
    made = [dicom(values, syntax, **tags) for syntax in (EXPLICIT, DEFLATED)]
    made.append(dicom(values, IMPLICIT, headless=True, WindowCenter=2048, WindowWidth=4096, BitsStored=12))
    for syntax in (JPEG, JPEG_12, JPEG_LOSSLESS, JPEG_LS, JPEG_2000, HTJ2K, RLE):
        bits = 8 if syntax == JPEG else 12
        stream = code_stream(syntax, picture(bits=bits))
        made.append(dicom(picture(bits=bits), syntax, frames=[stream], BitsStored=bits))
    return made


def mutated(number: int, originals: list[bytes]) -> bytes:
    """An original with a few bytes changed, lengths among them, a part moved, or its end missing."""
    random = np.random.default_rng(number)
    content = bytearray(originals[number % len(originals)])
    for _ in range(random.integers(1, 6)):
        # Half of the changes hit the header.
        end = min(len(content), 900 if random.random() < 0.5 else len(content))
        at = int(random.integers(132 if end > 132 else 0, end))
        kind = random.integers(6)
        if kind == 0:
            content[at] ^= 1 << int(random.integers(8))
        elif kind == 1:
            content[at : at + 4] = random.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"])
        elif kind == 2:
            content[at : at + 2] = random.bytes(2)
        elif kind == 3:
            content[at:at] = random.bytes(int(random.integers(1, 40)))
        elif kind == 4:
            del content[at : at + int(random.integers(1, 40))]
        else:
            other = int(random.integers(0, len(content)))
            content[at : at + 16] = content[other : other + 16]
    if random.random() < 0.15:
        del content[int(random.integers(140, len(content))) :]
    return bytes(content)


def element(group: int, number: int, kind: bytes, length: int, value: bytes = b"") -> bytes:
    """An explicit element whose length may be a lie."""
    if kind in (b"SQ", b"OB", b"OW", b"UN"):
        return struct.pack("<HH2sHI", group, number, kind, 0, length) + value
    return struct.pack("<HH2sH", group, number, kind, length) + value


def with_header(extra: bytes, **tags: Any) -> bytes:
    """A good file with `extra` before its pixels."""
    content = dicom(picture(), **tags)
    at = content.index(struct.pack("<HH2s", 0x7FE0, 0x10, b"OW"))
    return content[:at] + extra + content[at:]


def with_fragments(fragments: bytes, syntax: str = JPEG_LOSSLESS) -> bytes:
    """A file whose encapsulated pixels are `fragments`."""
    content = dicom(picture(), syntax, frames=[b"QQQQ"])
    return content[: content.index(EMPTY_ITEM[:4])] + fragments


def bombs() -> Iterator[tuple[str, bytes]]:
    values = picture()
    streams = {syntax: code_stream(syntax, values) for syntax in (JPEG_LOSSLESS, JPEG_LS, JPEG_2000, RLE)}
    yield "declared-huge", dicom(values, Rows=20000, Columns=20000)
    yield "declared-largest", dicom(values, Rows=65535, Columns=65535)
    for syntax in (JPEG_LOSSLESS, JPEG_LS):
        stream = streams[syntax]
        size = stream.index(struct.pack(">HH", 96, 80))
        huge = stream[:size] + struct.pack(">HH", 65000, 65000) + stream[size + 4 :]
        yield f"stream-huge-{syntax}", dicom(values, syntax, frames=[huge])
        yield f"both-huge-{syntax}", dicom(values, syntax, frames=[huge], Rows=65000, Columns=65000)
    stream = bytearray(streams[JPEG_2000])
    size = struct.pack(">II", 80, 96)
    yield (
        "stream-huge-2000",
        dicom(values, JPEG_2000, frames=[bytes(stream).replace(size, struct.pack(">II", 60000, 60000), 1)]),
    )
    for kind, tile in (("tiles", struct.pack(">II", 1, 1)), ("no-tiles", bytes(8))):
        tiled = bytes(stream[:24]) + tile + bytes(stream[32:])
        yield f"stream-{kind}", dicom(values, JPEG_2000, frames=[tiled])
    yield (
        "stream-components",
        dicom(values, JPEG_2000, frames=[bytes(stream[:40]) + b"\x40\0" + bytes(stream[42:])]),
    )
    runs = b"\x81\0" * 4_000_000
    yield "runs", dicom(values, RLE, frames=[struct.pack("<16I", 2, 64, 4_000_064, *[0] * 13) + runs])
    yield "runs-overlap", dicom(values, RLE, frames=[struct.pack("<16I", 15, *[64] * 15) + runs])
    scan = streams[JPEG_LOSSLESS]
    start = scan.index(b"\xff\xda")
    yield "scans", dicom(values, JPEG_LOSSLESS, frames=[scan[:-2] + scan[start:-2] * 5000 + b"\xff\xd9"])
    dataset = elements(values)
    dataset.PixelData = values.tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.add_new(0x00091010, "OB", bytes(250_000_000))
    yield "deflated", written(dataset, DEFLATED)
    yield "elements", with_header(b"".join(element(0x7F01, n % 65536, b"UN", 0) for n in range(2_000_000)))
    nested = element(0x0009, 0x1010, b"SQ", NO_LENGTH) + struct.pack("<HHI", 0xFFFE, 0xE000, NO_LENGTH)
    yield "nested", with_header(nested * 20_000)
    yield "items", with_header(element(0x0009, 0x1010, b"SQ", NO_LENGTH) + EMPTY_ITEM * 2_000_000)
    yield "lut-items", with_header(element(0x0028, 0x3010, b"SQ", 3_200_000, EMPTY_ITEM * 400_000))
    yield "lut-items-more", with_header(element(0x0028, 0x3010, b"SQ", 16_000_000, EMPTY_ITEM * 2_000_000))
    yield "no-end", with_header(element(0x0009, 0x1010, b"OB", NO_LENGTH, bytes(3_000_000)))
    yield "beyond-end", with_header(element(0x0009, 0x1010, b"OB", 0xFFFFFFF0))
    yield "charsets", dicom(values, SpecificCharacterSet=["ISO 2022 IR 87"] * 4000)
    yield "fragments", with_fragments(EMPTY_ITEM * 3_000_000)
    yield "fragment-beyond-end", with_fragments(EMPTY_ITEM + struct.pack("<HHI", 0xFFFE, 0xE000, 0x7FFFFFF0))
    yield "fragment-no-length", with_fragments(EMPTY_ITEM + struct.pack("<HHI", 0xFFFE, 0xE000, NO_LENGTH))
    yield "no-fragments", with_fragments(b"")
    yield "frames-many", dicom(values, NumberOfFrames=2_000_000_000)
    yield "frames-digits", dicom(values, NumberOfFrames="9" * 12)
    yield "lut-lies", dicom(values, VOILUTSequence=[lut([1, 2], 65535, 65535)])
    yield "window-huge", dicom(values, WindowCenter="1e300", WindowWidth="1e-300", VOILUTFunction="SIGMOID")
    yield "rescale-huge", dicom(values, RescaleSlope="1e308", RescaleIntercept="1e308")
    yield "aspect", dicom(np.zeros((600, 60000), np.uint8), PixelAspectRatio=[1, 4])
    yield "offsets", with_fragments(struct.pack("<HHI", 0xFFFE, 0xE000, 4_000_000) + b"\xff" * 4_000_000)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("hostile")
    made = originals()
    for number, content in enumerate(made):
        (folder / f"0-original-{number}").write_bytes(content)
    for number in range(MUTATED):
        (folder / f"mutated-{number}").write_bytes(mutated(number, made))
    for name, content in bombs():
        (folder / f"bomb-{name}").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.decode_folder", folder, str(MORE_BYTES)],
        cwd=Path(__file__).parents[2],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert not done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_originals_are_read(told: dict[str, Any]) -> None:
    assert [name for name, (reason, *_) in told["outcomes"].items() if name[0] == "0" and reason] == []


def test_every_mutated_file_is_a_picture_or_refused_for_a_known_reason(told: dict[str, Any]) -> None:
    mutants = {name: found for name, found in told["outcomes"].items() if name.startswith("mutated")}
    assert len(mutants) == MUTATED
    reasons = Counter(reason for reason, *_ in mutants.values())
    assert set(reasons) - {None} <= REASONS
    assert reasons[None] > 10
    assert sum(reasons.values()) - reasons[None] > 100
    for reason, said, _ in mutants.values():
        assert said.isprintable(), (reason, said)


def test_bombs_are_refused(told: dict[str, Any]) -> None:
    harmless = {"lut-items", "lut-items-more", "charsets", "lut-lies", "window-huge"}
    read = {name.removeprefix("bomb-") for name, (reason, *_) in told["outcomes"].items() if not reason}
    assert {name for name in read if not name.startswith(("0-", "mutated"))} <= harmless


def test_time_and_memory_are_bounded(told: dict[str, Any]) -> None:
    slowest = max(told["outcomes"].items(), key=lambda found: found[1][2])
    assert slowest[1][2] < SECONDS, slowest
    assert told["bytes"] < MORE_BYTES
