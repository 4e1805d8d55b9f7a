"""PGM and PPM of more than 8 bits, of which Pillow keeps 8 in colour; and of several pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from worker.images.depth import Values

_GAP = rb"(?:\s|#[^\n]{0,200}\n){1,50}"
_HEADER = re.compile(rb"P([2356])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s")


@dataclass(frozen=True)
class DeepPnm:
    """Width and height in pixels; `white`: the value that stands for it, 256 to 65535."""

    width: int
    height: int
    white: int
    channels: int
    is_text: bool
    start: int


def deep_pnm(content: bytes) -> DeepPnm | None:
    """The header of a PGM or PPM whose values take more than 8 bits; None for anything else."""
    found = _HEADER.match(content[:4096])
    if found is None or not 255 < int(found[4]) <= 65535:
        return None
    kind = int(found[1])
    return DeepPnm(
        int(found[2]), int(found[3]), int(found[4]), 3 if kind in (3, 6) else 1, kind in (2, 3), found.end()
    )


def pnm_has_others(content: bytes) -> bool:
    """Whether another picture follows the first of a binary PGM or PPM, of any depth, as Netpbm allows."""
    found = _HEADER.match(content[:4096])
    if found is None or found[1] not in (b"5", b"6"):
        return False
    values = int(found[2]) * int(found[3]) * (3 if found[1] == b"6" else 1)
    end = found.end() + values * (1 if int(found[4]) < 256 else 2)
    return re.match(rb"\s*P[1-7]\s", content[end : end + 64]) is not None


def decode_pnm(content: bytes, header: DeepPnm) -> Values:
    """uint16 (height, width, channels). Raises EOFError if values are missing, ValueError for text that is
    no number or beyond the white."""
    count = header.width * header.height * header.channels
    if header.is_text:
        text = re.sub(rb"#[^\n]*", b"", content[header.start :])
        numbers = [int(word) for word in text.split(None, count)[:count]]
        if numbers and not 0 <= min(numbers) <= max(numbers) <= header.white:
            raise ValueError("it has values brighter than the white that it names")
        values = np.array(numbers, np.uint16)
    elif len(content) < header.start + 2 * count:
        raise EOFError("values are missing")
    else:
        values = np.frombuffer(content[header.start : header.start + 2 * count], ">u2").astype(np.uint16)
    if len(values) < count:
        raise EOFError("values are missing")
    return values.reshape(header.height, header.width, header.channels)
