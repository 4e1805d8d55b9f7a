"""The one way a radiograph becomes the network's input: training, evaluating and explaining alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from worker.images.reader import Radiograph
from worker.model.metadata import Preprocessing

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def preprocess(radiograph: Radiograph, preprocessing: Preprocessing) -> Pixels:
    """The part of the image the network sees as uint8 (size, size); `scaling.scale` does the rest.

    Bilinear with antialiasing, whose filter reaches half an output pixel past the margin. Images of more
    than six times the size are first reduced by a whole factor to no less than three times the size, which
    is faster and hardly changes the result.
    """
    side = preprocessing.size
    small = radiograph.pixels.resize(
        (side, side),
        Image.Resampling.BILINEAR,
        box=preprocessing.box(radiograph.width, radiograph.height),
        reducing_gap=3.0,
    )
    return np.asarray(small)


def input_statistics(pixels: Pixels) -> tuple[float, float]:
    """Brightness and contrast of what `preprocess` gives: mean and standard deviation, in 0..255."""
    return float(pixels.mean()), float(pixels.std())
