"""From the stored matrix to the picture as it is looked at: square pixels, head up, not mirrored."""

from __future__ import annotations

from PIL import Image

from worker.errors import ImageError
from worker.images.dicom_header import Elements, Header
from worker.images.limits import Limits

_SQUARE_WITHIN = 0.01  # spacings are rounded
_BELIEVABLE = 4.0
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_TRANSPOSE = Image.Transpose


def for_viewing(
    header: Header, gray: Image.Image, shown: str, limits: Limits
) -> tuple[Image.Image, tuple[str, ...]]:
    """`gray` with square pixels, turned and flipped as PatientOrientation asks for, and what was done.

    Raises ImageError `unsupported` for pixels of a shape that no detector has, `too-large` for a picture that
    becomes so.
    """
    notes = []
    ratios = _ratios(header.elements)
    ratio = ratios[0] if ratios else 1.0
    if ratios and abs(ratios[-1] / ratio - 1) > _SQUARE_WITHIN:
        notes.append(
            f"its PixelAspectRatio, {ratios[-1]:.3g}, contradicts its spacing, {ratio:.3g}, and was left out"
        )
    if abs(ratio - 1) > _SQUARE_WITHIN:
        if not 1 / _BELIEVABLE <= ratio <= _BELIEVABLE:
            raise ImageError(
                "unsupported",
                f"{shown} has pixels {ratio:.3g} times as high as wide; correct its spacing",
            )
        width, height = gray.size
        size = (width, round(height * ratio)) if ratio > 1 else (round(width / ratio), height)
        if size[0] * size[1] > limits.max_pixels:
            raise ImageError(
                "too-large",
                f"{shown} is {size[0]} x {size[1]} square pixels; the limit is {limits.max_pixels:,} in all",
            )
        gray = gray.resize(size, Image.Resampling.BICUBIC)
        notes.append(f"pixels {ratio:.3g} times as high as wide made square")
    directions = tuple(text[:1].upper() for text in header.elements.texts("PatientOrientation"))
    turns = _turns(directions)
    for turn in turns:
        gray = gray.transpose(turn)
    if turns == [_TRANSPOSE.FLIP_LEFT_RIGHT]:
        notes.append(f"mirrored by its PatientOrientation, {directions[0]}\\{directions[1]}: flipped")
    elif turns:
        notes.append(f"turned upright by its PatientOrientation, {directions[0]}\\{directions[1]}")
    return gray, tuple(notes)


def _ratios(elements: Elements) -> list[float]:
    """Height of a pixel over its width, by the first spacing that says something, and by PixelAspectRatio,
    which is for files without one (PS3.3, C.7.6.3)."""
    found = []
    for keywords in (_SPACINGS, ("PixelAspectRatio",)):
        pairs = [elements.floats(keyword) for keyword in keywords]
        found += [pair[0] / pair[1] for pair in pairs if len(pair) == 2 and min(pair) > 0][:1]
    return found


def _turns(directions: tuple[str, ...]) -> list[Image.Transpose]:
    """What makes rows run to the patient's left and columns to the feet (PS3.3, C.7.6.1.1.1)."""
    if len(directions) != 2:
        return []
    row, column = directions
    turns = []
    if row in "HF" and column in "LR" and row and column:
        turns.append(_TRANSPOSE.TRANSPOSE)
        row, column = column, row
    if not (row in ("L", "R") and column in ("H", "F")):
        return []
    if row == "R":
        turns.append(_TRANSPOSE.FLIP_LEFT_RIGHT)
    if column == "H":
        turns.append(_TRANSPOSE.FLIP_TOP_BOTTOM)
    return turns
