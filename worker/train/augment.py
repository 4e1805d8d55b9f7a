"""Random views of a radiograph, reproducible from (seed, image, view). No TensorFlow here."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from worker.explain.preprocess import Pixels
from worker.explain.read import Radiograph
from worker.model.description import Preprocessing
from worker.train.recipe import ChestAugmentation

_BILINEAR = Image.Resampling.BILINEAR


def chest_view(
    radiograph: Radiograph,
    preprocessing: Preprocessing,
    settings: ChestAugmentation,
    key: tuple[int, int, int],
) -> Pixels:
    """One random view, uint8 (size, size); equal keys (seed, image, view) give equal views.

    Position first, from the full image and with the interpolation of `network_input`, so that a view of
    no change equals it; then exposure; then what hides parts of it.
    """
    rng = np.random.default_rng(key)
    seen = _positioned(radiograph.pixels, preprocessing, settings, rng)
    if rng.random() < settings.blur:
        seen = seen.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2) * preprocessing.size / 224))
    exposed = _exposed(np.asarray(seen, np.float32) / 255, settings, rng)
    return _hidden((exposed * 255 + 0.5).astype(np.uint8), settings, rng)


def _positioned(
    image: Image.Image, preprocessing: Preprocessing, settings: ChestAugmentation, rng: np.random.Generator
) -> Image.Image:
    """Turned, moved, magnified, stretched, mirrored."""
    left, upper, right, lower = preprocessing.box(*image.size)
    angle = rng.uniform(-settings.rotation, settings.rotation)
    if abs(angle) > 0.3:
        image = image.rotate(angle, _BILINEAR, fillcolor=int(rng.integers(0, 30)))
    part = np.exp(rng.uniform(*np.log(settings.window)))
    stretch = np.exp(rng.uniform(-settings.aspect, settings.aspect) / 2)
    width, height = (right - left) * part * stretch, (lower - upper) * part / stretch
    # A window smaller than the whole may lie anywhere in it, and `shift` beyond.
    across = _offset(right - left, width, settings.shift, rng)
    down = _offset(lower - upper, height, settings.shift, rng)
    x, y = (left + right) / 2 + across, (upper + lower) / 2 + down
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    image, box = _padded(image, box, rng)
    image = image.resize((preprocessing.size, preprocessing.size), _BILINEAR, box=box, reducing_gap=3.0)
    return ImageOps.mirror(image) if rng.random() < settings.flip else image


def _offset(whole: float, part: float, shift: float, rng: np.random.Generator) -> float:
    return float(rng.uniform(-1, 1) * shift * whole + rng.uniform(-0.5, 0.5) * max(0.0, whole - part))


def _padded(
    image: Image.Image, box: tuple[float, float, float, float], rng: np.random.Generator
) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """`image` enlarged until `box` lies in it, with black or with what its edge shows."""
    beyond = max(-box[0], -box[1], box[2] - image.width, box[3] - image.height)
    if beyond <= 0:
        return image, box
    more = int(beyond) + 1
    if rng.random() < 0.5:
        image = ImageOps.expand(image, more, int(rng.integers(0, 20)))
    else:
        image = Image.fromarray(np.pad(np.asarray(image), more, mode="edge"))
    return image, (box[0] + more, box[1] + more, box[2] + more, box[3] + more)


def _exposed(values: Any, settings: ChestAugmentation, rng: np.random.Generator) -> Any:
    """`values`, float32 in 0..1, as another tube, film or screen would show them."""
    values = values ** np.exp(rng.uniform(-settings.gamma, settings.gamma))
    factor = np.exp(rng.uniform(-settings.contrast, settings.contrast))
    middle = values.mean()
    values = (values - middle) * factor + middle + rng.uniform(-settings.brightness, settings.brightness)
    if settings.noise:
        values = values + rng.normal(0, rng.uniform(0, settings.noise), values.shape)
    return np.clip(values, 0, 1)


def _hidden(view: Pixels, settings: ChestAugmentation, rng: np.random.Generator) -> Pixels:
    """`view` with rectangles and edges painted over, where markers would give the class away."""
    side = view.shape[0]
    if rng.random() < settings.erase:
        for _ in range(int(rng.integers(1, 4))):
            height, width = (rng.uniform(0.06, 0.22, 2) * side).astype(int)
            top, left = int(rng.uniform(0, side - height)), int(rng.uniform(0, side - width))
            view[top : top + height, left : left + width] = rng.integers(0, 256)
    if rng.random() < settings.border:
        depths = (rng.uniform(0, 0.12, 4) * side).astype(int) * (rng.random(4) < 0.6)
        gray = int(rng.integers(0, 256))
        view[: depths[0]] = gray
        view[side - depths[1] :] = gray
        view[:, : depths[2]] = gray
        view[:, side - depths[3] :] = gray
    return view
