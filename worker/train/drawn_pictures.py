"""Drawn pictures that are no chest radiographs: what a check learns from beside a training's own images."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from worker.images.preprocess import Pixels

Plane = np.ndarray[Any, np.dtype[np.float64]]

# Gray of a drawn picture is worked out in 0..1 and cut there.
_WORDS = string.ascii_letters + string.digits + "    .,-"


def draw_picture(number: int, side: int, seed: int) -> Pixels:
    """The picture `number`, uint8 (side, side); equal numbers, sides and seeds give equal pictures.

    The kinds take turns: overlapping leaves, whose statistics are those of photographs (Lee, Mumford and
    Huang 2001, "Occlusion models for natural images"), clouds of 1/f noise, faces of a few large shapes,
    pages of text, screens of boxes and lines, regular patterns, limbs and slices as radiology shows other
    parts of the body, and flat pictures.
    """
    rng = np.random.default_rng((seed, number))
    values = _KINDS[number % len(_KINDS)](rng, side)
    if rng.random() < 0.25:
        values = 1.0 - values
    if rng.random() < 0.3:
        values = _framed(rng, values, side)
    values = np.clip(values, 0.0, 1.0) ** np.exp(rng.uniform(-0.7, 0.7))
    values = values + rng.normal(0.0, rng.uniform(0.0, 0.03), values.shape)
    return np.asarray((np.clip(values, 0.0, 1.0) * 255 + 0.5), np.uint8)


def _leaves(rng: np.random.Generator, side: int) -> Plane:
    """Shapes of all sizes (density as size to the power of -3), each hiding those before, each shaded."""
    image = Image.new("L", (side, side), int(rng.integers(0, 256)))
    pen = ImageDraw.Draw(image)
    smallest = rng.uniform(0.015, 0.06)
    round_ones = rng.random()
    for _ in range(int(rng.integers(60, 500))):
        radius = side * min(0.6, smallest / np.sqrt(rng.uniform(0.002, 1.0)))
        x, y = rng.uniform(-0.1, 1.1, 2) * side
        gray = int(rng.beta(0.9, 0.9) * 255)
        if rng.random() < round_ones:
            stretch = np.exp(rng.uniform(-0.7, 0.7))
            width, height = radius * stretch, radius / stretch
            pen.ellipse((x - width, y - height, x + width, y + height), fill=gray)
        else:
            pen.polygon(_polygon(rng, x, y, radius), fill=gray)
    shaded = _plane(image.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 1.2) * side / 224)))
    return shaded * (1 - rng.uniform(0, 0.5) * _cloud(rng, side, 1.5)) + rng.uniform(0, 0.3) * (
        _cloud(rng, side, 1.0) - 0.5
    )


def _clouds(rng: np.random.Generator, side: int) -> Plane:
    values = _cloud(rng, side, rng.uniform(0.3, 2.2))
    if rng.random() < 0.3:
        values = (values > rng.uniform(0.3, 0.7)).astype(np.float64)
    return values


def _few_shapes(rng: np.random.Generator, side: int) -> Plane:
    """A few large soft or hard things in front of a background: a flower, a cup, a head, a hill."""
    values = rng.uniform(0, 1) + rng.uniform(-0.6, 0.6) * _ramp(rng, side)
    values = values + rng.uniform(0, 0.4) * (_cloud(rng, side, rng.uniform(0.8, 2.0)) - 0.5)
    for _ in range(int(rng.integers(1, 9))):
        inside = _soft_blob(rng, side)
        texture = rng.uniform(0, 0.5) * (_cloud(rng, side, rng.uniform(0.3, 2.0)) - 0.5)
        values = values * (1 - inside) + inside * (
            rng.uniform(0, 1) + rng.uniform(-0.4, 0.4) * _ramp(rng, side) + texture
        )
    return np.asarray(values)


def _page(rng: np.random.Generator, side: int) -> Plane:
    """Lines of letters on paper, one or two columns, sometimes with a headline or a box for a picture."""
    scale = 2
    image = Image.new("L", (side * scale, side * scale), int(rng.integers(200, 256)))
    pen = ImageDraw.Draw(image)
    size = int(rng.uniform(0.015, 0.09) * side * scale) + 4
    font = ImageFont.load_default(size)
    ink = int(rng.integers(0, 110))
    columns = int(rng.integers(1, 3))
    width = side * scale / columns
    for column in range(columns):
        y = rng.uniform(0, 0.15) * side * scale
        while y < side * scale * rng.uniform(0.8, 1.2):
            if rng.random() < 0.08:
                y += size * 2
            line = "".join(rng.choice(list(_WORDS), int(width / size * 1.7)))
            pen.text((column * width + size, y), line[: int(rng.uniform(0.5, 1) * len(line))], ink, font)
            y += size * rng.uniform(1.1, 1.6)
    if rng.random() < 0.3:
        x, y = rng.uniform(0, 0.6, 2) * side * scale
        pen.rectangle((x, y, x + 0.4 * side * scale, y + 0.3 * side * scale), int(rng.integers(0, 256)))
    if rng.random() < 0.5:
        image = image.rotate(rng.uniform(-8, 8), fillcolor=int(rng.integers(0, 256)))
    return _plane(image.resize((side, side), Image.Resampling.BILINEAR))


def _screen(rng: np.random.Generator, side: int) -> Plane:
    """Boxes, lines, labels and curves, as screens and charts have them."""
    image = Image.new("L", (side, side), int(rng.choice([0, 20, 128, 235, 255])))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 40))):
        x, y = rng.uniform(0, side, 2)
        width, height = rng.exponential(0.2, 2) * side
        gray = int(rng.integers(0, 256))
        what = rng.integers(0, 4)
        if what == 0:
            pen.rectangle((x, y, x + width, y + height), gray)
        elif what == 1:
            pen.line((x, y, *rng.uniform(0, side, 2)), gray, int(rng.integers(1, 4)))
        elif what == 2:
            font = ImageFont.load_default(int(rng.uniform(0.04, 0.15) * side))
            pen.text((x, y), "".join(rng.choice(list(_WORDS), 8)), gray, font)
        else:
            points = np.stack([np.linspace(0, side, 24), np.cumsum(rng.normal(0, side / 24, 24)) + y], 1)
            pen.line([tuple(point) for point in points.tolist()], gray, int(rng.integers(1, 4)))
    return _plane(image)


def _pattern(rng: np.random.Generator, side: int) -> Plane:
    """Waves, checks or rings: cloth, tiles, fences."""
    y, x = np.mgrid[0:side, 0:side] / side
    turned = x * np.cos(angle := rng.uniform(0, np.pi)) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    along, over = rng.uniform(1.5, 30, 2) * 2 * np.pi
    kind = rng.integers(0, 3)
    if kind == 0:
        values = np.sin(turned * along)
    elif kind == 1:
        values = np.sin(turned * along) * np.sin(across * over)
    else:
        values = np.sin(np.hypot(x - rng.uniform(0, 1), y - rng.uniform(0, 1)) * along)
    if rng.random() < 0.5:
        values = np.sign(values)
    return np.asarray(0.5 + rng.uniform(0.15, 0.5) * values + rng.uniform(0, 0.3) * _cloud(rng, side, 1.0))


def _limb(rng: np.random.Generator, side: int) -> Plane:
    """Soft bars with bright edges and ends on a dark or bright ground: an arm, a leg, a hand, a hip."""
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    angle = rng.normal(np.pi / 2, 0.3) if rng.random() < 0.6 else rng.uniform(0, np.pi)
    values = rng.uniform(0, 0.15) + np.zeros((side, side))
    count = int(rng.choice([1, 1, 2, 2, 4, 5]))
    for number in range(count):
        lean = angle + rng.normal(0, 0.08) * count
        away = (number - (count - 1) / 2) * rng.uniform(0.14, 0.3) + rng.normal(0, 0.05)
        across = x * np.sin(lean) - y * np.cos(lean) - away
        along = x * np.cos(lean) + y * np.sin(lean) - rng.normal(0, 0.2)
        flesh = rng.uniform(0.08, 0.4) / np.sqrt(count) * (1 + rng.normal(0, 0.3) * along)
        bone = flesh * rng.uniform(0.2, 0.6) * (1 + rng.uniform(0, 2.5) * np.abs(along) ** rng.uniform(1, 3))
        values = values + rng.uniform(0.15, 0.5) * np.sqrt(np.clip(1 - (across / flesh) ** 2, 0, 1))
        shaft = np.clip(1 - (across / bone) ** 2, 0, 1)
        cortex = np.exp(-(((np.abs(across) - bone * 0.8) / (0.25 * bone)) ** 2))
        end = 1 / (1 + np.exp((np.abs(along) - rng.uniform(0.2, 0.9)) * 40))
        values = values + end * (rng.uniform(0.1, 0.4) * np.sqrt(shaft) + rng.uniform(0.1, 0.5) * cortex)
    return np.asarray(values * (0.85 + 0.3 * _cloud(rng, side, 1.4)))


def _slice(rng: np.random.Generator, side: int) -> Plane:
    """A section through a head or a trunk: an oval with a rim and things inside, on black."""
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    x, y = x - rng.normal(0, 0.04), y - rng.normal(0, 0.04)
    width, height = rng.uniform(0.22, 0.5, 2)
    radius = np.hypot(x / width, y / height) + rng.normal(0, 0.05) * np.cos(2 * np.arctan2(y, x))
    body = 1 / (1 + np.exp((radius - 1) * 60))
    rim = np.exp(-(((radius - rng.uniform(0.85, 0.97)) / rng.uniform(0.02, 0.08)) ** 2))
    inside = rng.uniform(0.2, 0.7) + rng.uniform(0.1, 0.8) * (_cloud(rng, side, rng.uniform(0.8, 2)) - 0.5)
    for _ in range(int(rng.integers(0, 7))):
        blob = _soft_blob(rng, side, largest=0.2)
        inside = inside * (1 - blob) + blob * rng.uniform(0, 1)
    return np.asarray(body * inside + rng.uniform(0, 0.8) * rim)


def _flat(rng: np.random.Generator, side: int) -> Plane:
    return np.asarray(rng.uniform(0, 1) + rng.uniform(-0.5, 0.5) * rng.integers(0, 2) * _ramp(rng, side))


_KINDS: tuple[Callable[[np.random.Generator, int], Plane], ...] = (
    _leaves, _few_shapes, _leaves, _limb, _clouds, _page, _few_shapes, _slice, _leaves, _screen, _pattern,
    _few_shapes, _limb, _slice, _leaves, _flat,
)  # fmt: skip


def _plane(image: Image.Image) -> Plane:
    return np.asarray(image, np.float64) / 255


def _cloud(rng: np.random.Generator, side: int, exponent: float) -> Plane:
    """Noise whose amplitude falls with frequency to the power of `exponent`, from 0 to 1."""
    down, across = np.fft.fftfreq(side)[:, np.newaxis], np.fft.rfftfreq(side)[np.newaxis]
    frequency = np.maximum(np.hypot(down * np.exp(rng.uniform(-0.6, 0.6)), across), 1 / side)
    phase = np.exp(2j * np.pi * rng.random(frequency.shape))
    values = np.fft.irfft2(phase / frequency**exponent, (side, side))
    low, high = np.quantile(values, (0.01, 0.99))
    return np.asarray(np.clip((values - low) / (high - low + 1e-12), 0, 1))


def _ramp(rng: np.random.Generator, side: int) -> Plane:
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    return np.asarray(x * np.cos(angle := rng.uniform(0, 2 * np.pi)) + y * np.sin(angle))


def _soft_blob(rng: np.random.Generator, side: int, largest: float = 0.6) -> Plane:
    """1 inside of a shape, 0 outside, with an edge between sharp and very soft."""
    y, x = np.mgrid[0:side, 0:side] / side
    x, y = x - rng.uniform(0, 1), y - rng.uniform(0, 1)
    angle = rng.uniform(0, np.pi)
    width, height = rng.uniform(0.03, largest, 2)
    along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    bumps = 1 + rng.uniform(0, 0.4) * np.cos(rng.integers(1, 8) * np.arctan2(across, along))
    power = rng.choice([2.0, 2.0, 4.0, 12.0])
    distance = ((np.abs(along) / width) ** power + (np.abs(across) / height) ** power) ** (1 / power) / bumps
    return np.asarray(1 / (1 + np.exp(np.clip((distance - 1) * np.exp(rng.uniform(1, 4.5)), -50, 50))))


def _polygon(rng: np.random.Generator, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
    return [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles.tolist()]


def _framed(rng: np.random.Generator, values: Plane, side: int) -> Plane:
    """Black, gray or white bands at some of the edges, as scans and screenshots have them."""
    depths = (rng.uniform(0, 0.2, 4) * side).astype(int) * (rng.random(4) < 0.6)
    framed = np.full_like(values, rng.choice([0.0, 0.0, rng.uniform(0, 1), 1.0]))
    rows, columns = slice(depths[0], side - depths[1]), slice(depths[2], side - depths[3])
    framed[rows, columns] = values[rows, columns]
    return framed
