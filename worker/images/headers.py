"""What the first bytes of a PNG, JPEG, JPEG 2000 or JPEG XL say, read before anything is decoded."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
JPEG2000_BOX = b"\0\0\0\x0cjP  "
JPEG2000_STREAM = b"\xff\x4f\xff\x51"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEGXL_BOX = b"\0\0\0\x0cJXL "
JPEGXL_STREAM = b"\xff\x0a"

# Bytes of a value of each type of TIFF and BigTIFF.
_TIFF_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}


@dataclass
class PngHeader:
    """`content`: the file without ancillary chunks whose checksum is wrong. `core`: only the chunks that
    make the pixels. `may_be_turned`: there is Exif or XMP, which may name an orientation. `is_cut`: it ends
    before its last chunk does."""

    width: int = 0
    height: int = 0
    depth: int = 0
    colour: int = 0
    significant_bits: int | None = None
    may_be_turned: bool = False
    bad_chunk: str | None = None
    is_cut: bool = True
    content: bytes = b""
    core: list[bytes] = field(default_factory=list)


def png_header(content: bytes) -> PngHeader:
    """Walks over all chunks and checks their checksums (PNG, third edition, section 5.3)."""
    header = PngHeader()
    bad: list[tuple[int, int]] = []
    view = memoryview(content)
    place = len(PNG)
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 12 + length
        if end > len(content) or not kind.isalpha():
            break
        is_whole = zlib.crc32(view[place + 4 : end - 4]) == struct.unpack_from(">I", content, end - 4)[0]
        is_ancillary = bool(kind[0] & 0x20)
        if is_ancillary and not is_whole:
            bad.append((place, end))
        elif not is_whole and header.bad_chunk is None:
            header.bad_chunk = kind.decode("ascii")
        elif kind == b"IHDR" and length == 13 and not header.width:
            header.width, header.height, header.depth, header.colour = struct.unpack_from(
                ">IIBB", content, place + 8
            )
        elif kind == b"sBIT" and length:
            colours = content[place + 8 : end - 4][: 3 if header.colour & 2 else 1]
            header.significant_bits = max(colours)
        elif kind == b"eXIf" or (
            kind in (b"zTXt", b"iTXt", b"tEXt") and _names_exif(view[place + 8 : end - 4])
        ):
            header.may_be_turned = True
        if not is_ancillary:
            header.core.append(content[place:end] if header.depth == 16 else b"")
        place = end
        if kind == b"IEND":
            header.is_cut = False
            break
    header.content = content
    for start, end in reversed(bad):
        header.content = header.content[:start] + header.content[end:]
    return header


def png_frames(content: bytes) -> int:
    """How many frames a PNG says that its animation has (section 11.3.6), 1 of one without."""
    place = len(PNG)
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind == b"acTL" and length >= 4:
            return int(struct.unpack_from(">I", content, place + 8)[0])
        if kind == b"IDAT":
            break
        place += 12 + length
    return 1


def _names_exif(text: memoryview) -> bool:
    """Whether a text chunk holds Exif or XMP, by its keyword."""
    return bytes(text[:17]).startswith((b"Raw profile type ", b"XML:com.adobe.xmp"))


@dataclass(frozen=True)
class StreamHeader:
    """Size in pixels, bits per sample, number of components. `start`: of the frame header, in bytes."""

    width: int
    height: int
    bits: int
    components: int
    frame: int = 0
    has_adobe: bool = False
    exif: bytes | None = None
    start: int = 0
    is_signed: bool = False
    tiles: int = 1


def jpeg_header(content: bytes) -> StreamHeader | None:
    """From the frame header (ITU-T T.81, B.2.2; T.87 for JPEG-LS); `frame`: second byte of its marker.
    None if there is none. Raises EOFError if the content ends before it."""
    place = 2
    has_adobe, exif = False, None
    while True:
        if place + 4 > len(content):
            raise EOFError("it ends before its frame header")
        if content[place] != 0xFF:
            return None
        marker = content[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        if marker in (0x01, *range(0xD0, 0xD9)):
            place += 2
            continue
        (length,) = struct.unpack_from(">H", content, place + 2)
        body = content[place + 4 : place + 2 + length]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            if len(body) < 6:
                raise EOFError("it ends within its frame header")
            bits, height, width, components = struct.unpack_from(">BHHB", body)
            return StreamHeader(width, height, bits, components, marker, has_adobe, exif, place)
        if marker in (0xD9, 0xDA):
            return None
        if marker == 0xEE and body.startswith(b"Adobe"):
            has_adobe = True
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = body
        place += 2 + length


def jpeg2000_header(content: bytes) -> StreamHeader | None:
    """From the SIZ segment (ITU-T T.800, A.5.1) of the code stream, in a JP2 file or by itself."""
    start = 0 if content.startswith(JPEG2000_STREAM) else _box(content, (b"jp2c",))
    if start is None or content[start : start + 4] != JPEG2000_STREAM or start + 43 > len(content):
        return None
    right, bottom, left, top, wide, high, first_x, first_y = struct.unpack_from(">8I", content, start + 8)
    if not wide or not high or right <= left or bottom <= top:
        return None
    (components,) = struct.unpack_from(">H", content, start + 40)
    depths = content[start + 42 : start + 42 + 3 * components : 3]
    if len(depths) < components or not components:
        return None
    return StreamHeader(
        right - left, bottom - top, max((depth & 0x7F) + 1 for depth in depths), components,
        start=start, is_signed=any(depth & 0x80 for depth in depths),
        tiles=-(-(right - first_x) // wide) * -(-(bottom - first_y) // high),
    )  # fmt: skip


def is_cut(content: bytes) -> bool:
    """Whether a file that no decoder takes ends before what its own header announces."""
    if content.startswith(PNG[:4]):
        return len(content) < 33 or png_header(content).is_cut
    if content.startswith((JPEG2000_BOX[:7], JPEG2000_STREAM)):
        return len(content) < 12 or is_cut_jpeg2000(content)
    if content.startswith(TIFF):
        return _is_cut_tiff(content)
    if content.startswith(b"RIFF") and content[8:12] in (b"WEBP", b""):
        return len(content) < 12 or 8 + int.from_bytes(content[4:8], "little") > len(content)
    return content.startswith(b"GIF8") and len(content) < 32


def _is_cut_tiff(content: bytes) -> bool:
    """Whether the first directory, or a value it refers to, lies beyond the end (TIFF 6.0, section 2)."""
    order = "<" if content.startswith(b"II") else ">"
    is_big = content[2:4] in (b"+\0", b"\0+")
    offset, count, entry, inline = ("Q", "Q", "HHQ", 8) if is_big else ("I", "H", "HHI", 4)
    size = struct.calcsize(order + entry)
    try:
        (place,) = struct.unpack_from(order + offset, content, 8 if is_big else 4)
        (entries,) = struct.unpack_from(order + count, content, place)
        place += struct.calcsize(order + count)
        for number in range(min(entries, 4096)):
            at = place + number * (size + inline)
            _, kind, values = struct.unpack_from(order + entry, content, at)
            length = _TIFF_SIZES.get(kind, 0) * values
            (start,) = struct.unpack_from(order + offset, content, at + size)
            if length > inline and start + length > len(content):
                return True
    except (struct.error, OverflowError):
        return True
    return False


def is_cut_jpeg2000(content: bytes) -> bool:
    """Whether a JPEG 2000 ends before its last box, or before the end marker of a bare code stream."""
    if content.startswith(JPEG2000_STREAM):
        return not content.rstrip(b"\0").endswith(b"\xff\xd9")
    if not content.startswith(JPEG2000_BOX):
        return False
    place = 0
    while place + 8 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        if length == 0:
            return not content.rstrip(b"\0").endswith(b"\xff\xd9")
        if length == 1:
            length = int.from_bytes(content[place + 8 : place + 16], "big")
        if length < 8:
            return False
        place += length
    return place != len(content)


def jpegxl_header(content: bytes) -> StreamHeader | None:
    """Size alone, from the SizeHeader of the code stream (ISO/IEC 18181-1, annex D)."""
    start: int | None = 0
    if not content.startswith(JPEGXL_STREAM):
        start = _box(content, (b"jxlc", b"jxlp"))
        if start is not None and content[start - 4 : start] == b"jxlp":
            start += 4
    if start is None or content[start : start + 2] != JPEGXL_STREAM or start + 16 > len(content):
        return None
    bits = int.from_bytes(content[start + 2 : start + 16], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    is_small = take(1)

    def side() -> int:
        return 8 * (1 + take(5)) if is_small else 1 + take((9, 13, 18, 30)[take(2)])

    height = side()
    ratio = take(3)
    if ratio:
        above, below = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
        width = height * above // below
    else:
        width = side()
    return StreamHeader(width, height, 0, 0)


def _box(content: bytes, kinds: tuple[bytes, ...]) -> int | None:
    """Where the content of the first box of one of `kinds` starts (ISO/IEC 15444-1, annex I.4)."""
    place = 0
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        header = 8
        if length == 1 and place + 16 <= len(content):
            (length,) = struct.unpack_from(">Q", content, place + 8)
            header = 16
        if kind in kinds:
            return place + header
        if length < header:
            return None
        place += length
    return None
