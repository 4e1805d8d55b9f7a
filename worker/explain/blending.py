"""Heat laid over the gray pixels of a radiograph, and outlines drawn on it: what every overlay is made of."""

from __future__ import annotations

import threading
import weakref
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from worker.errors import XraycamError
from worker.explain.names import COLORMAPS

Table = np.ndarray[Any, np.dtype[np.uint8]]
Heatmap = np.ndarray[Any, Any]
Box = tuple[float, float, float, float]


@cache
def lookup_table(name: str) -> Table:
    """The colours of heat 0..255 as uint8 (256, 3), read-only. Raises XraycamError with the known names."""
    if name not in COLORMAPS:
        raise XraycamError(f"there is no colour map {name!r}; known are {', '.join(COLORMAPS)}")
    ramp = np.arange(256, dtype=np.uint8)
    if name == "blue-red":
        table = np.stack([ramp, np.zeros_like(ramp), 255 - ramp], axis=1)
    elif name == "gray":
        table = np.stack([ramp, ramp, ramp], axis=1)
    else:
        # Stored: importing matplotlib for them takes a third of a second. A test holds the two equal.
        with np.load(Path(__file__).with_name("colormaps.npz")) as tables:
            table = tables[name]
    table.flags.writeable = False
    return table


def blend(
    gray: Image.Image, heatmap: Heatmap, box: Box, table: Table, opacity: float, strength: float = 1.0
) -> Image.Image:
    """`gray` (mode L) as RGB with `heatmap`, float (h, w) in 0..1, laid over `box` of it (pixels).

    The heatmap, multiplied by `strength` and cut off at 1, is resized bilinearly with half-pixel centres.
    The share of colour is `opacity` times the heat, so that where the heat is 0 (or below 1/510) a pixel is
    exactly the gray of the radiograph. Where `box` leaves a margin, the colour fades towards it.
    """
    canvas = new_canvas(gray.size)
    draw_blended(canvas, gray, heatmap, box, table, opacity, strength)
    return picture_of(canvas).convert("RGB")


# Pictures as they are drawn: a pixel's red, green and blue and a byte of no meaning, as uint32 (h, w).
Canvas = np.ndarray[Any, np.dtype[np.uint32]]


# Of pictures that are done with, for the next ones: new memory costs as much as what is drawn into it.
_spare: list[Canvas] = []
_sparing = threading.RLock()
_MOST_SPARE = 8
_LARGEST_SPARE = 16_000_000  # pixels, 64 MB


def new_canvas(size: tuple[int, int]) -> Canvas:
    """A canvas of `size` (width, height); what is on it is not defined."""
    pixels = size[0] * size[1]
    with _sparing:
        for number, memory in enumerate(_spare):
            if pixels <= memory.size <= 2 * pixels:
                return _spare.pop(number)[:pixels].reshape(size[::-1])
        if len(_spare) == _MOST_SPARE:
            del _spare[0]  # pictures have other sizes by now
    return np.empty(pixels, np.uint32).reshape(size[::-1])


def picture_of(canvas: Canvas) -> Image.Image:
    """The canvas as an image of mode RGBX, which has its memory from now on."""
    picture = Image.frombuffer("RGBX", canvas.shape[::-1], canvas, "raw", "RGBX", 0, 1)
    if canvas.size <= _LARGEST_SPARE and isinstance(canvas.base, np.ndarray):
        weakref.finalize(picture, _spare_memory, canvas.base).atexit = False
    return picture


def _spare_memory(memory: Canvas) -> None:
    # Called at any time, even while this thread looks through the list: so nothing in it is moved.
    with _sparing:
        if len(_spare) < _MOST_SPARE:
            _spare.append(memory)


def put(canvas: Canvas, picture: Image.Image, left: int, upper: int) -> None:
    """Copy an RGB image to its place on the canvas."""
    bytes_of = canvas.view(np.uint8).reshape(*canvas.shape, 4)
    bytes_of[upper : upper + picture.height, left : left + picture.width, :3] = np.asarray(picture)


def draw_blended(
    canvas: Canvas,
    gray: Image.Image,
    heatmap: Heatmap,
    box: Box,
    table: Table,
    opacity: float,
    strength: float = 1.0,
    across: int = 0,
) -> None:
    """Draw what `blend` gives at the top of `canvas`, `across` pixels from its left."""
    colours = _blended_colours(table.tobytes(), opacity)
    if not heatmap.any() or strength <= 0:
        _draw_from_table(canvas, across, gray, Image.new("L", gray.size), colours)
        return
    left, upper, right, lower = (round(edge) for edge in box)
    heat_values = np.minimum(heatmap.astype(np.float32) * np.float32(strength), np.float32(1))
    levels = Image.fromarray((heat_values * 255 + np.float32(0.5)).astype(np.uint8))
    heat = levels.resize((right - left, lower - upper), Image.Resampling.BILINEAR)
    whole = heat
    if heat.size != gray.size:
        whole = Image.new("L", gray.size)
        whole.paste(heat, (left, upper))
    _draw_from_table(canvas, across, gray, whole, colours)
    for edge in _fading_edges(heat.size, round(_FADE * left), round(_FADE * upper)):
        _draw_faded(canvas, across, gray, heat, (left, upper), edge, table, opacity)


# Rows are drawn together of which so many pixels stay in the processor's cache.
_PIXELS_AT_ONCE = 1 << 16


def _draw_from_table(
    canvas: Canvas, across: int, gray: Image.Image, heat: Image.Image, colours: Canvas
) -> None:
    """Each pixel by its level of heat and of gray: one look into a table, whatever the colour map."""
    shades, levels = np.asarray(gray), np.asarray(heat)
    height, width = shades.shape
    rows = max(1, _PIXELS_AT_ONCE // width)
    places = np.empty((rows, width), np.intp)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        index = levels[top:bottom].astype(np.uint16)
        index <<= 8
        index |= shades[top:bottom]
        place = places[: bottom - top]
        place[...] = index
        colours.take(place, out=canvas[top:bottom, across : across + width], mode="clip")


@lru_cache(maxsize=8)
def _blended_colours(palette: bytes, opacity: float) -> Canvas:
    """By 256 * level of heat + level of gray: red, green, blue and 255, a byte each, as uint32 (65536,).

    The mean of gray and colour, weighted by the share, is rounded as Pillow does when it pastes by a mask.
    """
    colours = np.frombuffer(palette, np.uint8).reshape(256, 1, 3).astype(np.int64)
    shares = np.array(_shares(opacity))[:, np.newaxis, np.newaxis]
    summed = np.arange(256)[np.newaxis, :, np.newaxis] * (255 - shares) + colours * shares + 128
    blended = np.full((256, 256, 4), 255, np.uint8)
    blended[..., :3] = (summed + (summed >> 8)) >> 8
    found: Canvas = blended.view(np.uint32).ravel()
    found.flags.writeable = False
    return found


def _shares(opacity: float) -> list[int]:
    """The share of colour, of 255, by level of heat."""
    return [round(opacity * level) for level in range(256)]


# Over so much of the margin's width the heat fades inside the edge of what the network saw.
_FADE = 0.4
_Region = tuple[int, int, int, int]


def _fading_edges(size: tuple[int, int], across: int, down: int) -> list[_Region]:
    """The parts of a picture of `size` within `across` columns or `down` rows of its edges."""
    width, height = size
    across, down = min(across, -(-width // 2)), min(down, -(-height // 2))
    edges = [
        (0, 0, width, down),
        (0, height - down, width, height),
        (0, down, across, height - down),
        (width - across, down, width, height - down),
    ]
    return [edge for edge in edges if edge[0] < edge[2] and edge[1] < edge[3]] if across or down else []


def _draw_faded(
    canvas: Canvas,
    across: int,
    gray: Image.Image,
    heat: Image.Image,
    corner: tuple[int, int],
    edge: _Region,
    table: Table,
    opacity: float,
) -> None:
    """Draw again `edge` of `heat`, which lies at `corner` of `gray`, the share of colour lower outwards."""
    left, upper = corner
    levels = heat.crop(edge)
    share = ImageChops.multiply(
        levels.point(_shares(opacity)), _fading(edge, heat.size, round(_FADE * left), round(_FADE * upper))
    )
    levels.putpalette(table.tobytes())
    part = gray.crop((left + edge[0], upper + edge[1], left + edge[2], upper + edge[3])).convert("RGB")
    part.paste(levels.convert("RGB"), (0, 0), share)
    put(canvas, part, across + left + edge[0], upper + edge[1])


# For the runs of pictures of few sizes; 64 strips of half a megabyte at a hundred megapixels.
@lru_cache(maxsize=64)
def _fading(edge: _Region, size: tuple[int, int], across: int, down: int) -> Image.Image:
    """`edge` of a picture of `size`: 255 but for `across` columns and `down` rows at the picture's edges,
    where it rises from 0 linearly."""

    def rising(length: int, over: int) -> np.ndarray[Any, Any]:
        distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + np.float32(0.5)
        weights: np.ndarray[Any, Any] = np.minimum(1, distance / np.float32(max(over, 1e-3)))
        return weights

    columns = rising(size[0], across)[edge[0] : edge[2]]
    rows = rising(size[1], down)[edge[1] : edge[3]]
    return Image.fromarray(np.rint(255 * rows[:, np.newaxis] * columns).astype(np.uint8))


# Of marked areas; the reduced size in which their edges are found, so that a line is one in so many pixels.
_OUTLINE_INK, _OUTLINE_SIDE = (0, 230, 255), 700


def draw_outlines(result: Image.Image, left: int, area: Image.Image) -> None:
    """Draw the edge of `area` (mode L, 0 or 255) on the picture of its size that begins at `left`."""
    step = max(1, max(area.size) // _OUTLINE_SIDE)
    small = area.reduce(step) if step > 1 else area
    small = small.point([255 * (level > 127) for level in range(256)])
    edge = ImageChops.subtract(small.filter(ImageFilter.MaxFilter(3)), small)
    result.paste(_OUTLINE_INK, (left, 0, left + area.width, area.height), edge.resize(area.size))
