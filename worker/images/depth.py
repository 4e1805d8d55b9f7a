"""From stored values of any depth to 256 gray levels: which range of them is black to white."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from worker.errors import ImageError

Values = np.ndarray[Any, Any]
Range = tuple[float, float]

USEFUL_LEVELS = 16
USEFUL_SHARE = 0.02

_DEPTHS = (8, 10, 12, 14, 16)  # of detectors; 9, 11, 13 and 15 bits come of an offset or of outliers
_FEW = 0.0005
_ROWS = 64
_SAMPLED = 1 << 18
_MIN_VALUES = 16


def gray_image(
    values: Values,
    declared: Range | None = None,
    significant_bits: int | None = None,
    zero_is_white: bool = False,
) -> Image.Image:
    """`values`, (height, width), integers or floats of any size, as mode L by `black_and_white`.

    round(255 * clip((v - black) / (white - black), 0, 1)), and 255 minus that if `zero_is_white`.
    Raises ValueError for values that are not finite.
    """
    black, white = black_and_white(values, declared, significant_bits)
    is_offset = black != 0 and (black, white) != declared and values.dtype.kind in "iu"
    if zero_is_white and is_offset:  # black is now the largest value that is stored: count from there
        values = ~values
        black, white = black_and_white(values)
        zero_is_white = False
    if zero_is_white:
        black, white = white, black
    return Image.fromarray(_scaled(values, black, white))


def black_and_white(
    values: Values, declared: Range | None = None, significant_bits: int | None = None
) -> Range:
    """The stored values that are shown as 0 and as 255.

    1. Outliers are set aside, at either end. (a) Isolated ones: with v the brightest other pixel and l the
       darkest, all are at least v + (v - l), a distance as wide as all else; they are at most 5% of the
       pixels, such as a burned-in marker, or any share of one value, such as padding; between them and v
       lie at most 0.05% of the pixels, or as many as there are outliers up to 1%, the smoothed edges of
       letters. (b) One extreme value at a distance of at least 1/32 of the rest, and (c) the outermost 0.05%
       of the pixels, or as many as (a) set aside at that end up to 1%: these two only where that lessens the
       depth of (3) by two bits, or from 9, 11, 13 or 15 bits, which no detector delivers; (b) also where it
       is negative, unless it is the least of a signed range that holds all else. What is left is low to high.
    2. `declared`, what the file names as black and white (BitsPerSample, SMinSampleValue, precision), is
       taken if it holds low and high and they span at least an eighth of it. `significant_bits` (sBIT of
       PNG) stands for 0 to 2^bits - 1, or, if the values are shifted up to fill 16 bits, for 0 to 65535.
    3. Integers: black = 0 and white = 2^bits - 1 with bits = max(8, bit length of high). If low < 0, or if
       the bit length of high - low is less by the measure of (1b), the data are offset: black = low and
       white = low + 2^bits - 1 with bits = max(8, bit length of high - low); black = -2^(bits - 1) if low
       is within an eighth of it. Relative brightness stays as it is: no histogram is stretched.
    4. Floats that are whole numbers: as integers. Others: 0 to 1 if all lie there and high > 1/8; -1 to 1 if
       all lie there and low <= -3/4; 0 to 2^bits - 1 for 8, 10, 12, 14 or 16 bits if high is within a quarter
       of it; else low to high, the outermost 0.05% left out. Less than 1/256 of its magnitude is flat.
    """
    seen, counts = _histogram(values)
    largest = seen[-1]
    is_whole = values.dtype.kind in "iu" or bool((seen == np.floor(seen)).all() and largest > 1)
    total = int(counts.sum())
    seen, counts, below, above = _without_isolated(seen, counts)
    if is_whole:
        seen, counts = _without_padding(seen, counts)
    trimmed = _trimmed(seen, counts, _few(total, below), _few(total, above))
    low, high = float(seen[0]), float(seen[-1])
    if is_whole and _is_better(_plan(low, high)[1], _plan(*trimmed)[1]):
        low, high = trimmed
    if significant_bits is not None:
        declared = _range_of_bits(values, significant_bits)
    if declared is not None:
        declared = _not_a_statistic(declared, largest)
        if declared[0] <= low and high <= declared[1] and (high - low) * 8 >= declared[1] - declared[0]:
            return declared
    if is_whole:
        black, bits = _plan(low, high)
        return black, black + 2**bits - 1
    return _range_of_floats(*trimmed)


def luma(channels: Values) -> Values:
    """(height, width, 3 or more) red, green, blue as (height, width) of the same type: ITU-R 601-2 luma,
    0.299 R + 0.587 G + 0.114 B. Values that are equal in all three stay as they are."""
    result = np.empty(channels.shape[:2], channels.dtype)
    for rows in _blocks(len(channels)):
        red, green, blue = (channels[rows, :, index] for index in range(3))
        if channels.dtype.kind == "f":
            result[rows] = blue + 0.299 * (red - blue) + 0.587 * (green - blue)
        else:
            wide = [channel.astype(np.int64) for channel in (red, green, blue)]
            result[rows] = (wide[0] * 19595 + wide[1] * 38470 + wide[2] * 7471 + 32768) >> 16
    return result


def seen(gray: Values, alpha: Values) -> Values:
    """`gray`, (height, width), as it is seen on black: what `alpha`, of the same type and unsigned or floats
    from 0 to 1, makes transparent is black, for it may hide a name. One alpha for all says nothing."""
    if alpha.min() == alpha.max():
        return gray
    full = 1.0 if alpha.dtype.kind == "f" else float(np.iinfo(alpha.dtype).max)
    result = np.empty_like(gray)
    for rows in _blocks(len(gray)):
        shown = gray[rows] * (alpha[rows] / full)
        result[rows] = shown if gray.dtype.kind == "f" else shown + 0.5
    return result


def require_contrast(image: Image.Image, shown: str) -> None:
    """Raises ImageError `no-contrast` if some 16 neighbouring gray levels hold over 98% of the pixels.

    16 levels are what is left of 12 bits that were stored as 16: nothing the eye or the network can tell
    apart. 2% of the pixels are a burned-in marker, or some thousand of the network's 224 x 224.
    """
    some = image.resize((128, 128), Image.Resampling.NEAREST)
    if _is_flat(np.asarray(some.histogram())) and _is_flat(np.asarray(image.histogram())):
        raise ImageError(
            "no-contrast",
            f"{shown} has no contrast: over {1 - USEFUL_SHARE:.0%} of its pixels lie within "
            f"{USEFUL_LEVELS} of 256 gray levels; check it in a viewer and export it again",
        )


def _is_flat(histogram: Values) -> bool:
    total = np.concatenate([[0], np.cumsum(histogram)])
    return bool((total[USEFUL_LEVELS:] - total[:-USEFUL_LEVELS]).max() > (1 - USEFUL_SHARE) * total[-1])


def _histogram(values: Values) -> tuple[Values, Values]:
    """Values that occur, ascending, as doubles, and how often: in every n-th row and column, some 260,000
    pixels, and the extremes of all."""
    if values.dtype.kind == "f" and not all(np.isfinite(values[rows]).all() for rows in _blocks(len(values))):
        raise ValueError("it holds values that are not numbers")
    step = max(1, int(np.sqrt(values.size / _SAMPLED)))
    some = values[::step, ::step]
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        shift = int(np.iinfo(values.dtype).min)
        counts = np.bincount(some.ravel().astype(np.int32) - shift)
        seen = np.flatnonzero(counts)
        counts, seen = counts[seen], (seen + shift).astype(np.float64)
    else:
        seen, counts = np.unique(some.astype(np.float64), return_counts=True)
    low, high = float(values.min()), float(values.max())
    below, above = [low] if low < seen[0] else [], [high] if high > seen[-1] else []
    seen = np.concatenate([below, seen, above])
    return seen, np.concatenate([[1] * len(below), counts, [1] * len(above)]).astype(np.int64)


def _without_isolated(seen: Values, counts: Values) -> tuple[Values, Values, int, int]:
    """What is left, and how many pixels were set aside below and above."""
    below = above = 0
    for _ in range(2):  # what was far from all may look near until the other end is set aside
        seen, counts, removed = _without_isolated_top(seen, counts)
        above += removed
        seen, counts, removed = _without_isolated_top(-seen[::-1], counts[::-1])
        below += removed
        seen, counts = -seen[::-1], counts[::-1]
    return seen, counts, below, above


def _without_isolated_top(seen: Values, counts: Values) -> tuple[Values, Values, int]:
    total = int(counts.sum())
    removed = 0
    while True:
        upto = np.cumsum(counts)
        span = seen - seen[0]
        first_above = np.searchsorted(seen, seen + span)
        between = upto[np.maximum(first_above - 1, 0)] - upto
        above = upto[-1] - upto - between
        nearest = seen[np.minimum(first_above, len(seen) - 1)]
        is_one_value = seen[-1] - nearest <= (nearest - seen) / 256
        isolated = (
            (np.arange(len(seen)) >= _MIN_VALUES - 1)
            & (above > 0)
            & (between <= np.maximum(_few(total), np.minimum(0.01 * total, above + removed)))
            & (upto >= 0.02 * total)
            & ((above + removed <= 0.05 * total) | is_one_value)
        )
        found = np.flatnonzero(isolated)
        if not len(found):
            return seen, counts, removed
        last = found[-1] + 1
        removed += int(counts[last:].sum())
        seen, counts = seen[:last], counts[:last]


def _without_padding(seen: Values, counts: Values) -> tuple[Values, Values]:
    for _ in range(2):  # what one end hides shows when the other is set aside
        for end, inner in ((0, slice(1, None)), (-1, slice(None, -1))):
            rest = seen[inner]
            if len(rest) < _MIN_VALUES or abs(rest[end] - seen[end]) * 32 < rest[-1] - rest[0]:
                continue
            is_negative = end == 0 and seen[0] < 0 and not _is_signed_range(seen[0], seen[-1])
            if is_negative or _is_better(_plan(seen[0], seen[-1])[1], _plan(rest[0], rest[-1])[1]):
                seen, counts = rest, counts[inner]
    return seen, counts


def _is_signed_range(low: float, high: float) -> bool:
    """Whether `low` is the least value of a signed type of a detector's depth that holds `high` too."""
    return any(low == -(2 ** (bits - 1)) and high < 2 ** (bits - 1) for bits in _DEPTHS)


def _trimmed(seen: Values, counts: Values, below: float, above: float) -> Range:
    """Lowest and highest value without the `below` lowest and the `above` highest pixels."""
    upto, downto = np.cumsum(counts), np.cumsum(counts[::-1])
    if upto[-1] > below + above:
        low = seen[np.searchsorted(upto, below, side="right")]
        high = seen[::-1][np.searchsorted(downto, above, side="right")]
        if low < high:
            return float(low), float(high)
    return float(seen[0]), float(seen[-1])


def _few(total: int, removed: int = 0) -> float:
    return max(3.0, _FEW * total, min(0.01 * total, removed))


def _bits(span: float) -> int:
    return max(8, int(span).bit_length())


def _is_better(bits: int, fewer: int) -> bool:
    return fewer <= bits - 2 or (fewer < bits and bits not in _DEPTHS)


def _plan(low: float, high: float) -> tuple[float, int]:
    """Black and the number of bits for whole numbers from `low` to `high`."""
    bits = _bits(high - low)
    if low < 0:
        middle = 2 ** (bits - 1)
        return (float(-middle), bits) if -middle <= low <= -middle * 7 / 8 and high < middle else (low, bits)
    return (low, bits) if _is_better(_bits(high), bits) else (0.0, _bits(high))


def _range_of_floats(low: float, high: float) -> Range:
    if high - low <= max(abs(low), abs(high)) / 256:
        return low, low + (max(abs(low), abs(high)) or 1.0)
    if low >= 0 and 1 / 8 < high <= 1:
        return 0.0, 1.0
    if -1 <= low <= -3 / 4 and high <= 1:
        return -1.0, 1.0
    bits = _bits(np.ceil(high))
    if low >= 0 and bits in _DEPTHS and (2**bits - 1) * 3 / 4 <= high <= 2**bits - 1:
        return 0.0, float(2**bits - 1)
    return low, high


def _range_of_bits(values: Values, bits: int) -> Range:
    """What `bits` significant bits of a file of 16 mean: values below 2^bits, or shifted up to 65535."""
    if values.dtype == np.uint16 and 8 <= bits < 16:
        seen = np.flatnonzero(np.bincount(values.ravel()[:: max(1, values.size // _SAMPLED)]))
        shift = 16 - bits
        is_shifted = (seen & ((1 << shift) - 1) == 0) | (seen & ((1 << shift) - 1) == seen >> bits)
        if bool(is_shifted.all()):
            return 0.0, 65535.0
    return 0.0, float(2**bits - 1)


def _not_a_statistic(declared: Range, largest: float) -> Range:
    """Some writers put the largest value of the image where the white belongs: what is within an eighth
    below a power of two then means that."""
    full = declared[0] + 2 ** _bits(declared[1] - declared[0]) - 1
    is_near = (declared[1] - declared[0]) * 8 >= (full - declared[0]) * 7
    return (declared[0], full) if declared[1] == largest and is_near else declared


def _scaled(values: Values, black: float, white: float) -> Values:
    """uint8 (height, width); in blocks of rows, whose doubles need little memory."""
    factor = 255 / (white - black)
    if values.dtype in (np.uint16, np.int16):
        stored = np.arange(1 << 16, dtype=np.uint16).view(values.dtype).astype(np.float64)
        table = (np.clip((stored - black) * factor, 0, 255) + 0.5).astype(np.uint8)
        return table[values.view(np.uint16)]
    scaled = np.empty(values.shape, np.uint8)
    for rows in _blocks(len(values)):
        scaled[rows] = np.clip((values[rows].astype(np.float64) - black) * factor, 0, 255) + 0.5
    return scaled


def _blocks(height: int) -> Iterator[slice]:
    return (slice(row, row + _ROWS) for row in range(0, height, _ROWS))
