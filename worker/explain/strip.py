"""Several pictures of one radiograph side by side, each under its name."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_GAP = 4
_INK = (255, 255, 255)


def strip(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """One RGB picture of `panels` (name, picture), all of one size, from left to right.

    A bar above each panel, a twentieth of its width but at least 20 pixels high, holds the name.
    """
    width, height = panels[0][1].size
    bar = max(20, width // 20)
    whole = Image.new("RGB", (len(panels) * (width + _GAP) - _GAP, bar + height))
    draw = ImageDraw.Draw(whole)
    for index, (name, picture) in enumerate(panels):
        left = index * (width + _GAP)
        whole.paste(picture, (left, bar))
        label, font = _fitted(draw, name, width - 8, bar)
        draw.text((left + width / 2, bar / 2), label, fill=_INK, font=font, anchor="mm")
    return whole


def _fitted(
    draw: ImageDraw.ImageDraw, name: str, width: float, bar: int
) -> tuple[str, ImageFont.FreeTypeFont | ImageFont.ImageFont]:
    """`name` in the largest size that fits, shortened where even the smallest readable one does not."""
    for size in range(int(bar * 0.7), 9, -1):
        font = ImageFont.load_default(size)
        if draw.textlength(name, font=font) <= width:
            return name, font
    font = ImageFont.load_default(10)
    while len(name) > 1 and draw.textlength(name + "…", font=font) > width:
        name = name[:-1]
    return name + "…", font
