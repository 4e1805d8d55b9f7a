"""Whether the score depends on what a map shows: insertion, deletion and ROAD, on the logit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image, ImageFilter

from worker.explain.forward import Values, inference_steps, scale
from worker.images.preprocess import Pixels
from worker.map_evaluation.curves import Curves, pixel_ranking
from worker.model.metadata import Preprocessing

# Direct neighbours weigh twice as much as diagonal ones.
_KERNEL = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]], np.float32)[:, :, np.newaxis, np.newaxis] / 12
_SWEEPS = 4
NOISE = 0.01 * 255


def impute(images: Any, known: Any) -> Any:
    """`images`, float32 (N, S, S), with each pixel that is not `known`, bool (N, S, S), replaced by the
    weighted mean of its eight neighbours, all such equations solved together.

    Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods", arXiv
    2202.00449, section 5.2, without the noise: see `NOISE`. Where the paper solves the sparse system, here
    the image is halved until little is missing, filled, upsample again and smoothed by Jacobi sweeps at
    each size: an approximation whose error a test bounds. An image of which nothing is known becomes 0.
    """
    return _filled(images[..., tf.newaxis], tf.cast(known, tf.float32)[..., tf.newaxis])[..., 0]


def _filled(images: Any, known: Any, sweeps: int = _SWEEPS) -> Any:
    side = images.shape[1]
    if side <= 4:
        total = tf.reduce_sum(known, axis=(1, 2), keepdims=True)
        mean = tf.math.divide_no_nan(tf.reduce_sum(images * known, axis=(1, 2), keepdims=True), total)
        return known * images + (1 - known) * mean
    share = tf.nn.avg_pool2d(known, 2, 2, "SAME")
    coarse = tf.math.divide_no_nan(tf.nn.avg_pool2d(images * known, 2, 2, "SAME"), share)
    filled = _filled(coarse, tf.cast(share > 0, tf.float32), 2 * sweeps)
    values = known * images + (1 - known) * tf.image.resize(filled, (side, side))
    # At the edge of the picture fewer neighbours share the weight.
    weight = tf.nn.conv2d(tf.ones((1, side, side, 1)), _KERNEL, 1, "SAME")
    for _ in range(sweeps):
        mean = tf.nn.conv2d(values, _KERNEL, 1, "SAME") / weight
        values = known * images + (1 - known) * mean
    return values


FRACTIONS = tuple(round(0.1 * step, 1) for step in range(1, 10))
AT_ONCE = 18  # images through the network, a gigabyte
IMAGES_AT_ONCE = 8


@dataclass(frozen=True)
class Shares:
    """At which shares of the picture the curves are looked at.

    `area`: those of insertion and deletion, beside nothing and all of it; `mean`: those of ROAD. `ends`: what
    the scores at nothing and at all weigh in the area, in units of what one of `area` weighs.
    """

    area: tuple[float, ...]
    mean: tuple[float, ...]
    ends: float


# The trapezoid rule over tenths, and their mean.
TENTHS = Shares(FRACTIONS, FRACTIONS, 0.5)
# The same two figures by Gauss and Legendre's rule of two places, exact for curves of the third degree, over
# 0..1 and over 0.05..0.95, of which the nine tenths are the middles: two ninths of the work.
_GAUSS = 0.5 / 3**0.5
TWO_PLACES = Shares(
    (0.5 - _GAUSS, 0.5 + _GAUSS), (round(0.5 - 0.9 * _GAUSS, 6), round(0.5 + 0.9 * _GAUSS, 6)), 0.0
)
_BLUR = 1 / 22  # standard deviation as a share of the side: 10 pixels of 224


class FaithfulnessTest:
    """A network made ready to score images with places removed. Not for use by several threads at once."""

    def __init__(self, network: Any, preprocessing: Preprocessing, shares: Shares = TENTHS) -> None:
        self._preprocessing = preprocessing
        self._shares = shares
        self._images_at_once = min(IMAGES_AT_ONCE, AT_ONCE // len(shares.area))
        self._steps = inference_steps(network, keep=())
        self._source, self._sink = id(network.inputs[0]), id(network.outputs[0])
        side = preprocessing.size
        self._noise = NOISE * np.random.default_rng(0).standard_normal((1, side, side)).astype(np.float32)
        self._compiled = tf.function(self._curves, autograph=False, reduce_retracing=True)
        self._ends = tf.function(self._end_scores, autograph=False, reduce_retracing=True)

    def curves(self, pixels: Pixels, targets: Any, maps: dict[str, Any]) -> dict[str, Curves]:
        """The curves of several kinds of maps, each (N, h, w), of the images `pixels`, uint8 (N, size, size),
        and the scores of the classes `targets` (N,)."""
        blurred = np.stack([_blurred(image) for image in pixels])
        side = self._preprocessing.size
        found: dict[str, list[Any]] = {name: [] for name in maps}
        at_once = self._images_at_once
        for start in range(0, len(pixels), at_once):
            part = slice(start, start + at_once)
            count = len(pixels[part])
            given = [
                _filled_up(values[part], at_once)
                for values in (pixels, blurred, np.asarray(targets, np.int32))
            ]
            ends = self._ends(*map(tf.constant, given))
            for name, heatmaps in maps.items():
                ranks = _filled_up(pixel_ranking(heatmaps[part], side), at_once)
                result = self._compiled(*map(tf.constant, given), tf.constant(ranks), ends)
                found[name].append(result.numpy()[:, :count].astype(np.float64))
        return {name: Curves(*np.concatenate(parts, axis=1)) for name, parts in found.items()}

    def _end_scores(self, images: Any, blurred: Any, targets: Any) -> Any:
        """Scores (3, B) of the images, of the blurred ones and of plain gray ones."""
        images = tf.cast(images, tf.float32)
        gray = tf.ones_like(images) * tf.reduce_mean(images, axis=(1, 2), keepdims=True)
        return tf.stack([self._scores(one, targets) for one in (images, tf.cast(blurred, tf.float32), gray)])

    def _curves(self, images: Any, blurred: Any, targets: Any, ranks: Any, ends: Any) -> Any:
        """The four figures of `Curves` for each image: (4, B)."""
        steps, side = len(self._shares.area), self._preprocessing.size
        whole, unsharp, gray = tf.unstack(ends)

        def repeated(values: Any) -> Any:
            return tf.repeat(values, steps, axis=0)

        images, targets = tf.cast(images, tf.float32), repeated(targets)
        means = repeated(tf.reduce_mean(images, axis=(1, 2), keepdims=True))
        images, blurred = repeated(images), repeated(tf.cast(blurred, tf.float32))
        nearest = tf.image.ResizeMethod.NEAREST_NEIGHBOR
        place = repeated(tf.image.resize(ranks[..., tf.newaxis], (side, side), nearest)[..., 0])

        def each(shares: tuple[float, ...]) -> Any:
            return tf.tile(tf.constant(shares), [tf.shape(ranks)[0]])[:, tf.newaxis, tf.newaxis]

        imputed = [
            tf.where(removed, impute(images, ~removed) + self._noise, images)
            for removed in (place < each(self._shares.mean), place >= 1 - each(self._shares.mean))
        ]
        hottest = place < each(self._shares.area)
        shown, deleted = tf.where(hottest, images, blurred), tf.where(hottest, means, images)
        inner = [
            tf.reshape(self._scores(changed, targets), (-1, steps)) for changed in (shown, deleted, *imputed)
        ]
        return tf.stack(
            [
                self._area(unsharp, inner[0], whole),
                self._area(whole, inner[1], gray),
                tf.reduce_mean(inner[2], axis=1),
                tf.reduce_mean(inner[3], axis=1),
            ]
        )

    def _area(self, first: Any, inner: Any, last: Any) -> Any:
        """Area under the curve through the scores, over a width of 1."""
        ends = self._shares.ends
        return (ends * first + tf.reduce_sum(inner, axis=1) + ends * last) / (inner.shape[1] + 2 * ends)

    def _scores(self, gray: Any, targets: Any) -> Any:
        values: Values = {self._source: scale(gray, self._preprocessing)}
        for step in self._steps:
            step.run(values)
        return tf.gather(values[self._sink], targets, batch_dims=1)


def _blurred(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(len(image) * _BLUR)))


def _filled_up(values: Any, count: int) -> Any:
    """Repeat the last entry up to a whole block, so that batches have one size."""
    missing = count - len(values)
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)]) if missing else values
