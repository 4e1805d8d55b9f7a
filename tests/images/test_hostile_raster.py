"""Hostile rasters: sizes are checked before anything is decoded, and no file takes more than its bounds."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from tests.support.made_raster import HEIGHT, WIDTH, deep, encodings, netpbm, rgb, tiff
from worker.errors import ImageError
from worker.images import raster
from worker.images.limits import Limits
from worker.images.raster import decode_raster

pytestmark = pytest.mark.filterwarnings("ignore")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ENCODINGS = encodings()
MUTATED = 400
MORE_BYTES = 1_500_000_000


def refused(content: bytes, limits: Limits | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode_raster(content, "x", limits or Limits())
    assert str(caught.value).isprintable()
    return caught.value


def lying(content: bytes, at: int, form: str, *sides: int) -> bytes:
    """The content with other numbers at a place, right down to the checksum of a PNG."""
    changed = bytearray(content)
    struct.pack_into(form, changed, at, *sides)
    if content.startswith(b"\x89PNG"):
        struct.pack_into(">I", changed, 29, zlib.crc32(changed[12:29]))
    return bytes(changed)


SIDES = struct.pack(">HH", HEIGHT, WIDTH)
LONG_SIDES = struct.pack(">II", WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "content",
    [
        lying(ENCODINGS["PNG 16 RGBA"], 16, ">II", 60_000, 60_000),
        *(
            lying(ENCODINGS[name], ENCODINGS[name].index(SIDES), ">HH", 60_000, 60_000)
            for name in ("JPEG 12", "JPEG lossless 16", "JPEG-LS RGB")
        ),
        lying(ENCODINGS["j2k 12"], ENCODINGS["j2k 12"].index(LONG_SIDES), ">II", 60_000, 60_000),
        netpbm("P6", rgb(deep(12)), 4095).replace(b"128 112", b"60000 60000"),
        tiff(deep(12)).replace(
            struct.pack("<HHII", 256, 4, 1, WIDTH), struct.pack("<HHII", 256, 4, 1, 2**30)
        ),
    ],
)
def test_sizes_beyond_the_limit_are_refused_before_anything_is_decoded(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoDecoder:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was called")

    monkeypatch.setattr(raster, "imagecodecs", NoDecoder())
    assert refused(content).reason == "too-large"


def test_limits_hold_for_every_decoder() -> None:
    for name, content in ENCODINGS.items():
        assert refused(content, Limits(max_pixels=WIDTH * HEIGHT - 1)).reason == "too-large", name
        assert refused(content, Limits(min_side=HEIGHT + 1)).reason == "too-small", name


def test_bytes_of_many_samples_count_as_well_as_pixels() -> None:
    values = np.broadcast_to(deep(8)[..., None] / 255, (HEIGHT, WIDTH, 3))
    error = refused(tiff(np.ascontiguousarray(values)), Limits(max_pixels=WIDTH * HEIGHT))
    assert error.reason == "too-large"
    assert "bytes when decoded" in str(error)


def test_a_tile_larger_than_it_says_is_not_decoded() -> None:
    small = tiff(deep(12), compression="jpeg2000")
    giant = bytearray(small)
    at = small.index(LONG_SIDES, small.index(b"\xff\x4f\xff\x51"))
    struct.pack_into(">II", giant, at, 9_000, 9_000)
    error = refused(bytes(giant))
    assert error.reason == "not-an-image"
    assert "the size in a strip or tile is not that of the image" in str(error)


@pytest.mark.parametrize(
    ("compression", "pack"),
    [
        (8, lambda: zlib.compress(bytes(300_000_000), 9)),
        (50000, lambda: imagecodecs.zstd_encode(bytes(300_000_000))),
        (34925, lambda: imagecodecs.lzma_encode(bytes(30_000_000))),
        (32773, lambda: b"\x81\0" * 1_000_000),
    ],
)
def test_what_expands_beyond_its_strip_takes_no_more_memory_than_the_strip(
    compression: int, pack: Callable[[], bytes]
) -> None:
    packed = pack()
    tags = [
        (256, 64),
        (257, 64),
        (258, 16),
        (259, compression),
        (262, 1),
        (273, 8),
        (278, 64),
        (279, len(packed)),
    ]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    at = 8 + len(packed)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    content = b"II*\0" + struct.pack("<I", at) + packed + directory
    program = (
        "import sys, resource; from worker.images.raster import *\n"
        "content = sys.stdin.buffer.read()\n"
        "def held(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = held()\n"
        "try: decode_raster(content, 'x', Limits())\n"
        "except ImageError as error: print(error.reason)\n"
        "assert held() - before < 100_000, held() - before"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=content, capture_output=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() in (b"not-an-image", b"no-contrast")


def test_mutated_files_are_read_or_refused_within_time_and_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.decode_mutated", str(MUTATED), str(MORE_BYTES), "7"], cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    assert len(outcomes) == MUTATED
    for name, reason, message, seconds in outcomes:
        assert message.isprintable(), name
        assert seconds < 20, (name, reason, seconds)
    reasons = Counter(reason for _, reason, _, _ in outcomes)
    assert reasons[None] > MUTATED / 10
    assert set(reasons) <= {
        None, "truncated", "not-an-image", "unsupported", "too-small", "too-large", "no-contrast",
        "multi-frame",
    }  # fmt: skip
