"""Hostile images, made from a few phantoms with a fixed seed: names and contents."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

SEED = 20
SIZE = 96


@dataclass(frozen=True)
class Hostile:
    """`must_fail`: no reader may make an image of it; `name` is the file's, in bytes."""

    kind: str
    name: bytes
    content: bytes
    must_fail: bool = False


def corpus() -> Iterator[Hostile]:
    """Over 500 files; the same ones every time."""
    dice = random.Random(SEED)
    good = originals()
    kinds = {
        **{f"flipped {kind}": [flipped(one, dice) for _ in range(20)] for kind, one in good.items()},
        **{f"cut {kind}": [one[: dice.randrange(len(one))] for _ in range(12)] for kind, one in good.items()},
        **{f"spliced {kind}": [spliced(one, good, dice) for _ in range(8)] for kind, one in good.items()},
        **{f"filled {kind}": [filled(one, dice) for _ in range(6)] for kind, one in good.items()},
        **{f"lengths {kind}": [wrong_length(one, dice) for _ in range(8)] for kind, one in good.items()},
    }
    for kind, contents in kinds.items():
        for number, content in enumerate(contents):
            yield Hostile(kind, f"{kind} {number}.{kind.split()[1]}".encode(), content)
    for kind, content in (bombs() | nested(good)).items():
        yield Hostile(kind, f"{kind}.png".encode(), content, must_fail=True)
    for kind, content in costly().items():
        yield Hostile(kind, f"{kind}.png".encode(), content)
    for number, name in enumerate(NAMES):
        yield Hostile(f"name {number}", name, good["png"])


def originals() -> dict[str, bytes]:
    """One small phantom in every format and depth that is read."""
    shades = Image.fromarray(np.random.default_rng(SEED).integers(0, 256, (6, 6), dtype=np.uint8))
    gray = shades.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    colour = gray.convert("RGB")
    saved = {
        "png": (gray, "PNG", {}),
        "png16": (deep, "PNG", {}),
        "palette": (colour.quantize(64), "PNG", {}),
        "interlaced": (colour, "PNG", {"pnginfo": _text("Comment", "a phantom")}),
        "jpg": (colour, "JPEG", {"quality": 85, "exif": _exif()}),
        "progressive": (gray, "JPEG", {"progressive": True}),
        "tif": (deep, "TIFF", {}),
        "deflated": (gray, "TIFF", {"compression": "tiff_adobe_deflate"}),
        "lzw": (colour, "TIFF", {"compression": "tiff_lzw"}),
        "float": (Image.fromarray(np.asarray(gray).astype(np.float32)), "TIFF", {}),
        "bmp": (colour, "BMP", {}),
        "gif": (gray, "GIF", {}),
        "animation": (gray, "GIF", {"save_all": True, "append_images": [gray.rotate(9)] * 3}),
        "webp": (colour, "WEBP", {}),
        "jp2": (gray, "JPEG2000", {}),
        "pgm": (gray, "PPM", {}),
    }
    found = {}
    for name, (image, form, options) in saved.items():
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        found[name] = buffer.getvalue()
    return found


def flipped(content: bytes, dice: random.Random) -> bytes:
    """Between one and eight bits turned over, half of the time in the head, where the structure is."""
    found = bytearray(content)
    for _ in range(dice.randint(1, 8)):
        reach = len(found) if dice.random() < 0.5 else min(128, len(found))
        found[dice.randrange(reach)] ^= 1 << dice.randrange(8)
    return bytes(found)


def spliced(content: bytes, others: dict[str, bytes], dice: random.Random) -> bytes:
    """The beginning of one file and the end of another, of another format maybe."""
    other = dice.choice(sorted(others.values()))
    return content[: dice.randrange(1, len(content))] + other[dice.randrange(len(other)) :]


def filled(content: bytes, dice: random.Random) -> bytes:
    """A part written over with one byte, or with noise."""
    start = dice.randrange(len(content))
    length = dice.randrange(1, len(content) - start + 1)
    filling = dice.choice([b"\0" * length, b"\xff" * length, dice.randbytes(length)])
    return content[:start] + filling + content[start + length :]


def wrong_length(content: bytes, dice: random.Random) -> bytes:
    """A field of two or four bytes set to an extreme, in the first kilobyte, in either byte order."""
    place = dice.randrange(2, max(3, min(1024, len(content) - 4)))
    form = dice.choice(["<H", ">H", "<I", ">I"])
    largest = 0xFFFF if form.endswith("H") else 0xFFFFFFFF
    value = dice.choice([0, 1, largest, largest // 2, largest // 2 + 1, dice.randint(0, largest)])
    packed = struct.pack(form, value)
    return content[:place] + packed + content[place + len(packed) :]


def bombs() -> dict[str, bytes]:
    """Small files that say they are, or become, giants; all beyond the limits."""
    shut = zlib.compress(b"\0" * 50_000_000, 9)
    pixels = zlib.compress(bytes(SIZE * (SIZE + 1)))
    sides = {"giant": (2**31 - 1, 2**31 - 1), "wide": (2**30, 20), "just too large": (10_001, 10_000)}
    return {
        **{f"{name} PNG": png(*size, zlib.compress(b"\0" * 4096)) for name, size in sides.items()},
        "PNG of no width": png(0, 100, b""),
        "PNG of too few pixels": png(1, 1, zlib.compress(b"\0\0")),
        "text bomb": png(SIZE, SIZE, pixels, chunk(b"zTXt", b"k\0\0" + shut)),
        "international text bomb": png(
            SIZE, SIZE, pixels, chunk(b"iTXt", b"k\0\1\0\0\0" + shut)
        ),
        "many text bombs": png(
            SIZE, SIZE, pixels,
            chunk(b"zTXt", b"k\0\0" + zlib.compress(b"\0" * 1_000_000, 9)) * 200,
        ),
        "giant GIF": b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
        + b",\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
        "giant BMP": b"BM" + struct.pack("<IHHI", 100, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, 2**30, 2**30, 1, 24, 0, 0, 1, 1, 0, 0) + b"\0" * 50,
        "giant PGM": b"P5 999999999 999999999 255\n" + b"\0" * 50,
        "endless PGM header": b"P5 " + b"#" * 5_000_000,
        "giant TIFF": tiff(2**31 - 1, 2**31 - 1),
        "TIFF in a circle": b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<I", 8),
        "giant JPEG": b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0"
        b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + b"\0" * 50,
    }  # fmt: skip


def costly() -> dict[str, bytes]:
    """What is within the limits and costs as much as anything may."""
    rows = b"\0" * (9_000 * 6_001)
    return {
        "large and black": png(9_000, 6_000, zlib.compress(rows[: 6_000 * 9_001], 1)),
        "large and truncated": png(9_900, 10_000, zlib.compress(rows[:9_901], 9)),
        "profile bomb": png(
            SIZE, SIZE, zlib.compress(bytes(SIZE * (SIZE + 1))),
            chunk(b"iCCP", b"k\0\0" + zlib.compress(b"\0" * 50_000_000, 9)),
        ),
        "pixels beyond the size": png(SIZE, SIZE, zlib.compress(b"\0" * 50_000_000, 9)),
    }  # fmt: skip


def nested(good: dict[str, bytes]) -> dict[str, bytes]:
    """Formats within formats, and formats that run or fetch something."""
    import gzip
    import tarfile
    import zipfile

    zipped, archive = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as file:
        file.writestr("a.png", good["png"])
    with tarfile.open(fileobj=archive, mode="w") as tape:
        tape.addfile(tarfile.TarInfo("a.png"))
    return {
        "zip": zipped.getvalue(),
        "tar": archive.getvalue(),
        "gzip": gzip.compress(good["png"]),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\n(/etc/passwd) (r) file\n",
        "PDF": b"%PDF-1.7\n" + good["jpg"],
        "ICO": b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 96, 96, 0, 0, 1, 32, len(good["png"]), 22)
        + good["png"],
        "script": b"#!/bin/sh\nexit 0\n",
        "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "HTML": b"<!DOCTYPE html><title>404</title>" * 100,
        "DICOM": b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\0\0\0\0",
        "empty": b"",
        "one byte": b"\x89",
        "zeros": b"\0" * 10_000,
        "PNG in a WebP": b"RIFF" + struct.pack("<I", len(good["png"]) + 4) + b"WEBP" + good["png"],
    }  # fmt: skip


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, packed: bytes, extra: bytes = b"") -> bytes:
    """An 8-bit gray PNG, right down to its checksums."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def tiff(width: int, height: int) -> bytes:
    entries = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (278, height), (279, 50)]
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + table + struct.pack("<I", 0)


def _text(key: str, value: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, value, zip=True)
    return info


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


NAMES = (
    b"line\nbreak.png", b"\r\n.png", b"tab\t.png", b"'quote'.png", b'"double".png', b"`touch x`.png",
    b"$(touch x).png", b";touch x;.png", b"-rf.png", b"--output=x.png", b"-.png", b"[red]markup.png",
    b"%s%n%d.png", b"{0}{run}.png", b"..\\..\\up.png", b"...png", b" .png", b"a b.png",
    b"\xc3\xa9\xe2\x82\xac.png", "\N{RIGHT-TO-LEFT OVERRIDE}gnp.png".encode(),
    "\N{GRINNING FACE}.png".encode(), b"\x1b[31mred.png", b"\x7f.png", b"caf\xe9.png",
    b"\xff\xfe\xfd.png", b"\xed\xa0\x80.png", b"=cmd()|.png", b"a" * 240 + b".png",
    "é".encode() * 120 + b".png", b"CON.png", b"a.png.png", b"#.png", b"?.png", b"*.png", b"~.png",
    b"&&.png", b"!.png",
)  # fmt: skip


def write(folder: Path, hostile: Hostile) -> Path:
    file = folder / os.fsdecode(hostile.name)
    file.write_bytes(hostile.content)
    return file
