"""Recognising DICOM files, with or without their header."""

from __future__ import annotations

import struct

_FIRST_GROUPS = (0x0002, 0x0008)


def is_dicom(content: bytes) -> bool:
    """Whether `content` is DICOM: by the mark after the preamble or, in old files without one, by beginning
    with two data elements in ascending order of which the first is of group 2 or 8 (PS3.5, section 7.1).
    """
    if content[128:132] == b"DICM":
        return True
    first = _element(content, 0)
    if first is None or first[0][0] not in _FIRST_GROUPS:
        return False
    second = _element(content, first[1])
    return second is not None and first[0] < second[0] and second[0][0] <= 0x0010


def _element(content: bytes, start: int) -> tuple[tuple[int, int], int] | None:
    """Tag of the little-endian data element at `start`, and where the next one starts."""
    if start + 12 > len(content):
        return None
    group, element = struct.unpack_from("<HH", content, start)
    representation = content[start + 4 : start + 6]
    if not (representation.isalpha() and representation.isupper()):
        length = struct.unpack_from("<I", content, start + 4)[0]
        header = 8
    elif representation in (b"OB", b"OW", b"SQ", b"UN", b"UT"):
        length = struct.unpack_from("<I", content, start + 8)[0]
        header = 12
    else:
        length = struct.unpack_from("<H", content, start + 6)[0]
        header = 8
    return (group, element), start + header + length
