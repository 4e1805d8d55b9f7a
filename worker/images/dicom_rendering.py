"""From stored values to gray of 8 bits, as one table over all values that can be stored.

Order (PS3.3, C.11.1 and C.11.2): modality LUT or rescale, then VOI LUT or window, of several the first, then
inversion for MONOCHROME1. Padding is left out of the range of values and becomes black at the end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from worker.errors import ImageError
from worker.images.dicom_frames import Frame, PixelFormat
from worker.images.dicom_header import Elements, Header
from worker.images.dicom_shutter import Opening, read_shutter

Floats = np.ndarray[Any, np.dtype[np.float64]]
Values = np.ndarray[Any, np.dtype[Any]]

_ROUNDING = 1e-6  # gray is cut to whole numbers, but not for an error of the floats
_LARGEST = 1e9  # of rescaled values that a detector could mean
_ROWS_COMPARED = 256
_BLOCK = 262_144  # values looked up at once: their indices stay in the cache of the processor


def render(
    header: Header, form: PixelFormat, frame: Frame, shown: str
) -> tuple[Image.Image, str, tuple[str, ...]]:
    """`frame` as a mode L image of the stored matrix, black outside its shutter, the name of the rendering,
    and notes on it.

    Raises ImageError `unsupported` where the values cannot be understood, `no-pixels` where all are padding.
    """
    is_open, shutter_notes = read_shutter(header.elements, form.rows, form.columns)
    gray, rendering, notes = _rendered(header, form, frame, is_open, shown)
    if is_open is not None:
        gray = np.where(is_open, gray, np.uint8(0))
    return Image.fromarray(gray), rendering, (*notes, *shutter_notes)


def _rendered(
    header: Header, form: PixelFormat, frame: Frame, is_open: Opening | None, shown: str
) -> tuple[Values, str, tuple[str, ...]]:
    """The same as uint8 (rows, columns), with what lies outside the shutter."""
    values = frame.values
    if frame.model == "stored":
        held = _with_bits_held(form, frame)
        looked_at = values if is_open is None else values[is_open]
        table, rendering, notes = _table(header.elements, held, frame, looked_at, shown)
        if held != form:
            more = f"its header says {form.stored} bits, its values take {held.stored}: taken as those"
            notes = (*notes, more)
        return look_up(table, values), rendering, notes
    if values.dtype.itemsize > 1:
        top = min(frame.precision, form.high + 1)
        values = (values >> max(top - 8, 0)).clip(0, 255).astype(np.uint8)
    if frame.model == "luma":
        return values, "luma of YBR", ()
    return np.asarray(Image.fromarray(values).convert("L")), "luma of RGB", ()


def look_up(table: Values, values: Values) -> Values:
    """`table[values]`, for unsigned integers below its length."""
    flat = values.reshape(-1)
    found = np.empty(flat.shape, table.dtype)
    for start in range(0, len(flat), _BLOCK):
        end = start + _BLOCK
        np.take(table, flat[start:end], out=found[start:end], mode="clip")
    return found.reshape(values.shape)


def _with_bits_held(form: PixelFormat, frame: Frame) -> PixelFormat:
    """`form` with the bits that the values take where these are more than it says. Bits above the highest may
    be an overlay, or padding, of which the picture is free without them; bits of its own leave a wrapped one,
    with steps from white to black, and more of them than the whole has."""
    values, is_lossless = frame.values, not (frame.is_lossy and not form.is_signed)
    if values.dtype.itemsize == 1 or form.high != form.stored - 1 or form.stored == 16 or not is_lossless:
        return form
    table, some = stored_values(form, frame), values[:: max(1, len(values) // _ROWS_COMPARED)]
    whole = values.astype(np.int16) if form.is_signed else values
    if form.is_signed:
        is_more = bool((look_up(table, values) != whole).any())
    else:
        is_more = int(values.max()) >> form.stored != 0
    if not is_more or _steps(some.astype(whole.dtype)) >= _steps(look_up(table, some)):
        return form
    bits = 16 if form.is_signed else int(values.max()).bit_length()
    return replace(form, stored=bits, high=bits - 1)


def _steps(values: Values) -> int:
    """The sum of all steps from a pixel to the next in its row."""
    return int(np.abs(np.diff(values.astype(np.int64), axis=1)).sum())


def stored_values(form: PixelFormat, frame: Frame) -> Values:
    """For each pattern of bits in `frame.values`, the value stored: without the bits above HighBit and below
    those stored, with its sign. int64, of 256 or 65,536 entries."""
    patterns = np.arange(256 if frame.values.dtype.itemsize == 1 else 65536)
    mask = (1 << form.stored) - 1
    shift = form.high - form.stored + 1
    # A compressed stream of no more bits than are stored has them at the low end.
    stored = patterns >> shift if frame.precision > form.high else patterns
    if frame.is_lossy and shift == 0 and not form.is_signed:
        return np.asarray(np.minimum(stored, mask))  # white that overshot, which must not become black
    stored = stored & mask
    return np.where(stored > mask >> 1, stored - mask - 1, stored) if form.is_signed else stored


def _table(
    elements: Elements, form: PixelFormat, frame: Frame, looked_at: Values, shown: str
) -> tuple[Values, str, tuple[str, ...]]:
    """For each pattern of bits its gray. `looked_at`: the values that the range is of where there is no
    window."""
    stored = stored_values(form, frame)
    padding = _padding(elements, form, stored)
    notes: list[str] = []
    if form.photometric == "PALETTE COLOR":
        return _palette(elements, stored, shown), "luma of the palette", ()
    values, is_changed = _modality_values(elements, form, stored, shown)
    gray, rendering = _voi(elements, values, notes)
    if gray is None and form.stored == 8 and not form.is_signed and not is_changed:
        gray, rendering = values, "no window: stored values of 8 bits as they are"
    if gray is None or padding.any():
        used = _present(looked_at, len(stored)) & ~padding
        if not used.any():
            raise ImageError("no-pixels", f"{shown} holds nothing but padding; export it anew")
        if gray is None:
            low, high = float(values[used].min()), float(values[used].max())
            gray = (values - low) / ((high - low) or 1) * 255
            rendering = f"no window: minimum to maximum, {low:.6g} to {high:.6g}"
    gray = np.clip(gray, 0, 255)
    if form.photometric == "MONOCHROME1":
        gray = 255 - gray
        rendering += ", inverted (MONOCHROME1)"
    shades = (gray + _ROUNDING).astype(np.uint8)
    if padding.any():
        shades[padding] = 0
        rendering += ", padding black"
    if frame.is_lossy and frame.precision < form.stored:
        notes.append(f"its header says {form.stored} bits, its compressed pixels have {frame.precision}")
    shape = elements.text("PresentationLUTShape").upper()
    if shape == {"MONOCHROME1": "IDENTITY", "MONOCHROME2": "INVERSE"}.get(form.photometric):
        # Viewers disagree; of public cases the shape was the wrong one (dcm4che #944).
        notes.append(f"its PresentationLUTShape {shape} contradicts {form.photometric}, and was left out")
    if not form.photometric:
        notes.append("the header does not say whether high values are bright: taken as MONOCHROME2")
    return shades, rendering, tuple(notes)


def _present(values: Values, patterns: int) -> Values:
    """Which patterns of bits occur, as booleans."""
    present = np.zeros(patterns, np.bool_)
    flat = values.reshape(-1)
    for start in range(0, len(flat), _BLOCK):
        present[flat[start : start + _BLOCK]] = True
    return present


def _padding(elements: Elements, form: PixelFormat, stored: Values) -> Values:
    """For each pattern of bits, whether it is padding (PS3.3, C.7.5.1.1.2)."""
    first = elements.words("PixelPaddingValue")
    if not len(first):
        return np.zeros(len(stored), np.bool_)
    last = elements.words("PixelPaddingRangeLimit")
    low, high = int(first[0]), int(last[0] if len(last) else first[0])
    patterns = np.arange(len(stored))
    is_exact = patterns == low  # with bits set above those stored
    if form.is_signed:
        low, high = low - (low >> 15 << 16), high - (high >> 15 << 16)
    low, high = min(low, high), max(low, high)
    is_within = np.asarray((stored >= low) & (stored <= high))
    return is_within if is_within.any() else is_exact


def _modality_values(
    elements: Elements, form: PixelFormat, stored: Values, shown: str
) -> tuple[Floats, bool]:
    """Stored values by the modality LUT or rescale, and whether that changes them."""
    if elements.holds("ModalityLUTSequence"):
        lut = _read_lut(elements.items("ModalityLUTSequence"), form.is_signed)
        if lut is None:
            raise ImageError("unsupported", f"{shown} has a modality LUT that cannot be read; export it anew")
        data, first, _ = lut
        return data[np.clip(stored - first, 0, len(data) - 1)].astype(np.float64), True
    slope = elements.first_float("RescaleSlope") if elements.text("RescaleSlope") else 1.0
    intercept = elements.first_float("RescaleIntercept") if elements.text("RescaleIntercept") else 0.0
    if slope is None or intercept is None or not 0 < abs(slope) < _LARGEST or abs(intercept) > _LARGEST:
        raise ImageError("unsupported", f"{shown} has a rescale slope that makes no sense; export it anew")
    values = stored * slope + intercept
    return values, (slope, intercept) != (1, 0)


def _voi(elements: Elements, values: Floats, notes: list[str]) -> tuple[Floats | None, str]:
    """Gray from 0 to 255 by the VOI LUT, or else the window; None without either. The LUT goes first where
    both are there, alternatives by the standard: the curves of radiography are far from linear."""
    if elements.holds("VOILUTSequence"):
        lut = _read_lut(elements.items("VOILUTSequence"), bool(values.min() < 0))
        if lut is not None:
            data, first, declared = lut
            # Descriptors that name too few bits are met, and 16 for curves that end at 4095, of which 16
            # levels of gray would be left: then by the bits that its values take, as Cornerstone always does.
            # A curve that ends at a quarter of the whole or above is as dark as it is meant to be.
            bits = max(int(data.max()).bit_length(), 1)
            if declared - 2 < bits <= declared:
                bits = declared
            else:
                notes.append(f"its VOI LUT says {declared} bits and holds {bits}: scaled by those it holds")
            at = np.clip(np.rint(values).astype(np.int64) - first, 0, len(data) - 1)
            return data[at] / ((1 << bits) - 1) * 255.0, f"VOI LUT of {len(data)} entries, {bits} bits"
        notes.append("its VOI LUT cannot be read and was left out")
    center, width = elements.first_float("WindowCenter"), elements.first_float("WindowWidth")
    function = elements.text("VOILUTFunction").upper()
    if center is None or width is None:
        if elements.holds("WindowCenter") or elements.holds("WindowWidth"):
            notes.append("its window is no number and was left out")
        return None, ""
    gray = window(values, center, width, function)
    if gray is None:
        notes.append("its window has no width and was left out")
        return None, ""
    kind = {"SIGMOID": "sigmoid window", "LINEAR_EXACT": "exact linear window"}.get(function, "window")
    return gray, f"{kind} {center:g}/{width:g}"


def window(values: Floats, center: float, width: float, function: str) -> Floats | None:
    """Gray, 0 to 255 where not clipped, by the window of PS3.3, C.11.2.1.2.1 (LINEAR, the default)
    and C.11.2.1.3 (LINEAR_EXACT, SIGMOID); None for a width that is no window."""
    if width <= 0 or (width < 1 and function not in ("SIGMOID", "LINEAR_EXACT")):
        return None
    if function == "SIGMOID":
        return 255 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return ((values - center) / width + 0.5) * 255
    if width == 1:
        return np.where(values > center - 0.5, 255.0, 0.0)
    return ((values - (center - 0.5)) / (width - 1) + 0.5) * 255


def _read_lut(items: list[Elements], is_signed: bool) -> tuple[Values, int, int] | None:
    """Entries, first value mapped and bits, as its descriptor has them, of the first LUT that can be read
    (PS3.3, C.11.1.1); None if none can."""
    return next((lut for item in items if (lut := _lut_of(item, is_signed)) is not None), None)


def _lut_of(item: Elements, is_signed: bool) -> tuple[Values, int, int] | None:
    descriptor = item.words("LUTDescriptor")
    data = item.words("LUTData")
    if len(descriptor) < 3 or not len(data):
        return None
    entries, first, bits = int(descriptor[0]) or 65536, int(descriptor[1]), int(descriptor[2])
    if is_signed or _is_signed_short(item):
        first -= first >> 15 << 16
    if len(data) < entries <= 2 * len(data) and bits <= 8:  # two entries to a word
        data = np.frombuffer(item.content("LUTData"), np.uint8)
    if len(data) < entries:
        return None
    return data[:entries].astype(np.int64), first, bits


def _is_signed_short(item: Elements) -> bool:
    element = item.raw("LUTDescriptor")
    return element is not None and element.VR == "SS"


def _palette(elements: Elements, stored: Values, shown: str) -> Values:
    """Luma of the colours of a palette (PS3.3, C.7.6.3.1.5 and .6)."""
    shades = []
    for colour in ("Red", "Green", "Blue"):
        descriptor = elements.words(f"{colour}PaletteColorLookupTableDescriptor")
        data: Values = elements.words(f"{colour}PaletteColorLookupTableData")
        entries = (int(descriptor[0]) or 65536) if len(descriptor) >= 3 else 0
        if entries and len(data) < entries <= 2 * len(data) and descriptor[2] == 8:
            data = np.frombuffer(elements.content(f"{colour}PaletteColorLookupTableData"), np.uint8)
        if not entries or len(data) < entries:
            raise ImageError("unsupported", f"{shown} has a palette that cannot be read; export it as gray")
        shades.append(data[np.clip(stored - int(descriptor[1]), 0, entries - 1)].astype(np.float64))
    full = 255 if max(shade.max() for shade in shades) < 256 else 65535  # of one of them dark is dark
    luma = 0.299 * shades[0] + 0.587 * shades[1] + 0.114 * shades[2]
    gray: Values = np.clip(luma * (255 / full) + 0.5, 0, 255).astype(np.uint8)
    return gray
