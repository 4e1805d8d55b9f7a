"""Drawing in body coordinates: the unit square is the picture of a patient who stands straight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

Floats = NDArray[np.float32]
Points = NDArray[np.float64]

# Pillow draws on whole pixels; this much blur (in pixels) hides the steps.
SMOOTHING = 0.6


@dataclass(frozen=True)
class Pose:
    """How the unit square lies in the picture: size in pixels, scale, turn in radians, shift in units."""

    size: int
    scale: tuple[float, float] = (1.0, 1.0)
    turn: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)

    def pixels(self, points: Points) -> Points:
        """Give pixel coordinates (n, 2), x before y, of body points (n, 2)."""
        x, y = ((points - 0.5) * self.scale).T
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        turned = np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)
        placed: Points = (turned + 0.5 + self.shift) * self.size
        return placed

    def length(self, unit: float) -> float:
        """Give a body length in pixels."""
        return unit * self.size * (self.scale[0] + self.scale[1]) / 2


def points(*pairs: tuple[float, float]) -> Points:
    return np.array(pairs, np.float64)


def mirrored(outline: Points) -> Points:
    """Give the outline on the other side of the body's mid-line."""
    return np.column_stack([1.0 - outline[:, 0], outline[:, 1]])


def rounded(corners: Points, *, closed: bool, times: int = 3) -> Points:
    """Cut the corners of a line or outline (Chaikin 1974): four times as many points in each two rounds."""
    line = corners
    for _ in range(times):
        start, end = (line, np.roll(line, -1, axis=0)) if closed else (line[:-1], line[1:])
        cut = np.stack([0.75 * start + 0.25 * end, 0.25 * start + 0.75 * end], axis=1).reshape(-1, 2)
        line = cut if closed else np.concatenate([line[:1], cut, line[-1:]])
    return line


def arc(start: ArrayLike, bend: ArrayLike, end: ArrayLike, count: int = 24) -> Points:
    """Give a quadratic Bezier curve from start to end, drawn towards bend."""
    t = np.linspace(0.0, 1.0, count)[:, None]
    weights = (1 - t) ** 2, 2 * t * (1 - t), t**2
    curve: Points = sum(
        weight * np.asarray(point) for weight, point in zip(weights, (start, bend, end), strict=True)
    )
    return curve


class Layer:
    """One kind of tissue. `shrink` draws smooth things on a smaller grid, which is upsample when read."""

    def __init__(self, pose: Pose, *, shrink: int = 1) -> None:
        self.pose = pose
        self.grid = max(16, pose.size // shrink)
        self.ratio = self.grid / pose.size
        self.image = Image.new("L", (self.grid, self.grid))
        self.pen = ImageDraw.Draw(self.image)

    def area(self, outline: Points, level: float = 1.0) -> None:
        """Fill an outline in body coordinates; later shapes cover earlier ones."""
        self.pen.polygon(self._flat(outline), fill=round(255 * level))

    def band(self, line: Points, width: float, level: float = 1.0) -> None:
        """Draw a line of a width given in body lengths, one pixel at least."""
        pixels = self.pose.length(width) * self.ratio
        if pixels < 2.5:
            self.pen.line(self._flat(line), fill=round(255 * level), width=max(1, round(pixels)))
            return
        # One polygon: Pillow joins the parts of a wide line in Python, which takes ten times as long.
        path = self.pose.pixels(line) * self.ratio
        step = path[1:] - path[:-1]
        step = np.concatenate([step[:1], step[1:] + step[:-1], step[-1:]])
        step *= (pixels / 2 / np.hypot(step[:, 0], step[:, 1]))[:, None]
        across = step[:, ::-1] * (-1.0, 1.0)
        rim = np.concatenate([path + across, (path - across)[::-1]])
        self.pen.polygon(rim.ravel().tolist(), fill=round(255 * level))

    def values(self, blur: float = 0.0) -> Floats:
        """Give the layer as (size, size) float32 in 0..1, blurred by a radius in body lengths."""
        radius = max(SMOOTHING, self.pose.length(blur) * self.ratio)
        # Three box blurs make a Gaussian (which is what Pillow does); below a pixel one is enough.
        kind = ImageFilter.GaussianBlur if radius > 1 else ImageFilter.BoxBlur
        image = self.image.filter(kind(radius))
        if self.ratio != 1.0:
            image = image.resize((self.pose.size, self.pose.size), Image.Resampling.BILINEAR)
        return np.asarray(image, np.float32) * np.float32(1 / 255)

    def drawn(self) -> NDArray[np.bool_]:
        """Give the pixels (grid, grid) that anything was drawn on, without blur."""
        return np.asarray(self.image) > 0

    def _flat(self, outline: Points) -> list[float]:
        flat: list[float] = (self.pose.pixels(outline) * self.ratio).ravel().tolist()
        return flat


def cloud(rng: np.random.Generator, cells: int, size: int) -> Floats:
    """Give smooth noise (size, size), mean 0 and deviation near 1: `cells` blobs on a side, upsample."""
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), np.float32)
