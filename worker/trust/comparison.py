"""One picture of one radiograph: layers across, methods down, the original first."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_GAP = 4
_INK, _GROUND = (255, 255, 255), (0, 0, 0)
_PANEL = 320  # pixels, the longer side of a panel

Panels = dict[tuple[str, str], Image.Image]


def comparison(
    title: str, original: Image.Image, layers: Sequence[str], methods: Sequence[str], panels: Panels
) -> Image.Image:
    """RGB: the original on the left of each row of `panels` by (layer, method), all of one size; layers
    above the columns, methods left of the rows, `title` on top."""
    width, height = panel_size(original.size)
    bar, side = 24, 90
    columns = ("original", *layers)
    whole = Image.new(
        "RGB",
        (side + len(columns) * (width + _GAP), 2 * bar + len(methods) * (height + _GAP)),
        _GROUND,
    )
    draw = ImageDraw.Draw(whole)
    _write(draw, title, (8, bar // 2), whole.width - 16, "lm")
    for number, name in enumerate(columns):
        left = side + number * (width + _GAP)
        _write(draw, name, (left + width // 2, bar + bar // 2), width - 8, "mm")
        for row, method in enumerate(methods):
            top = 2 * bar + row * (height + _GAP)
            picture = original if number == 0 else panels[name, method]
            whole.paste(picture.resize((width, height), Image.Resampling.BILINEAR), (left, top))
    for row, method in enumerate(methods):
        _write(draw, method, (8, 2 * bar + row * (height + _GAP) + height // 2), side - 12, "lm")
    return whole


def panel_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the panel of an image of `size`, in its proportions."""
    factor = _PANEL / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _write(draw: ImageDraw.ImageDraw, text: str, place: tuple[int, int], width: int, anchor: str) -> None:
    for size in range(16, 7, -1):
        font = ImageFont.load_default(size)
        if draw.textlength(text, font=font) <= width:
            break
    draw.text(place, text, fill=_INK, font=font, anchor=anchor)
