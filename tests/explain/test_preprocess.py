"""The network's input is the same function of the image everywhere."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from PIL import Image

from worker.explain.forward import scale
from worker.images.preprocess import preprocess
from worker.images.reader import Radiograph
from worker.model.metadata import Preprocessing


def of(gray: np.ndarray) -> Radiograph:
    return Radiograph(Image.fromarray(gray), gray.shape[1], gray.shape[0], "")


def test_input_is_the_image_averaged_down_to_a_square() -> None:
    gray = np.repeat(np.repeat(np.array([[0, 200], [100, 50]], np.uint8), 64, axis=0), 128, axis=1)
    small = preprocess(of(gray), Preprocessing(size=32))
    assert small.shape == (32, 32)
    assert small.dtype == np.uint8
    assert small[[0, 0, 31, 31], [0, 31, 0, 31]].tolist() == [0, 200, 100, 50]


def test_margin_is_cut_off_each_edge() -> None:
    gray = np.full((100, 200), 80, np.uint8)
    gray[:10], gray[-10:], gray[:, :20], gray[:, -20:] = 255, 255, 255, 255
    assert (preprocess(of(gray), Preprocessing(size=32)) == 255).any()
    inside = preprocess(of(gray), Preprocessing(size=32, margin=0.1))
    # The antialiasing of the outermost pixels mixes in what lies next to them.
    assert (inside[1:-1, 1:-1] == 80).all()
    assert inside.max() < 130


def test_very_large_images_are_reduced_without_a_visible_difference() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)
    large = Image.fromarray(coarse).resize((1500, 1300), Image.Resampling.BICUBIC)
    exact = np.asarray(large.resize((96, 96), Image.Resampling.BILINEAR)).astype(int)
    reduced = preprocess(Radiograph(large, 1500, 1300, ""), Preprocessing(size=96)).astype(int)
    assert np.abs(reduced - exact).max() <= 3


@pytest.mark.parametrize(("name", "expected"), [("unit", [0, 0.2, 1]), ("symmetric", [-1, -0.6, 1])])
def test_scaling_by_hand(name: str, expected: list[float]) -> None:
    gray = np.zeros((1, 32, 32), np.uint8)
    gray[0, 0, :3] = [0, 51, 255]
    scaled = scale(gray, Preprocessing(size=32, scale=name)).numpy()
    assert scaled.shape == (1, 32, 32, 3)
    assert scaled.dtype == np.float32
    for channel in range(3):
        np.testing.assert_allclose(scaled[0, 0, :3, channel], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "mode"), [("unit", None), ("symmetric", "tf"), ("imagenet", "torch"), ("imagenet-bgr", "caffe")]
)
def test_scales_are_those_of_keras_applications(name: Any, mode: str | None) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    channels = np.repeat(gray[..., np.newaxis].astype(np.float32), 3, axis=-1)
    wanted = channels / 255.0
    if mode is not None:
        wanted = keras.applications.imagenet_utils.preprocess_input(channels.copy(), mode=mode)
    found = scale(gray, Preprocessing(size=32, scale=name))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


def test_pixels_are_left_as_they_are() -> None:
    gray = np.array([[[0, 255]]], np.uint8)
    found = scale(gray, Preprocessing(size=32, scale="pixels"))
    assert found.numpy().tolist() == [[[[0.0] * 3, [255.0] * 3]]]
