"""Removed pixels are filled as the paper's equations say, near enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

from worker.images.preprocess import Pixels
from worker.map_evaluation.faithfulness import impute

NEIGHBOURS = [
    (rows, columns, 1 / 6 if 0 in (rows, columns) else 1 / 12)
    for rows in (-1, 0, 1)
    for columns in (-1, 0, 1)
    if (rows, columns) != (0, 0)
]


def solved(image: Any, known: Any) -> Any:
    """The sparse system of the paper, solved directly."""
    missing = {place: number for number, place in enumerate(zip(*np.nonzero(~known), strict=True))}
    matrix, right = lil_matrix((len(missing), len(missing))), np.zeros(len(missing))
    for (row, column), number in missing.items():
        for down, across, weight in NEIGHBOURS:
            place = row + down, column + across
            if not (0 <= place[0] < len(image) and 0 <= place[1] < len(image)):
                continue
            matrix[number, number] += weight
            if place in missing:
                matrix[number, missing[place]] -= weight
            else:
                right[number] += weight * image[place]
    result = image.astype(np.float64).copy()
    values = spsolve(matrix.tocsr(), right)
    for place, number in missing.items():
        result[place] = values[number]
    return result


@pytest.mark.parametrize("removed", [0.1, 0.5, 0.9])
def test_filled_pixels_are_near_the_exact_solution(pixels: Pixels, removed: float) -> None:
    heat = np.kron(np.random.default_rng(2).random((12, 12)), np.ones((8, 8)))
    known = heat > np.quantile(heat, removed)
    image = pixels[0].astype(np.float32)
    found = impute(tf.constant(image[None]), tf.constant(known[None])).numpy()[0]
    exact = solved(image, known)
    np.testing.assert_array_equal(found[known], image[known])
    error = np.abs(found - exact)[~known]
    assert error.mean() < 0.03 * 255
    assert error.mean() < 0.25 * np.abs(exact - image[known].mean())[~known].mean()


def test_isolated_pixel_is_the_weighted_mean_of_its_neighbours() -> None:
    image = np.arange(64, dtype=np.float32).reshape(8, 8) ** 2
    known = np.ones((8, 8), bool)
    known[3, 4] = False
    expected = sum(weight * image[3 + down, 4 + across] for down, across, weight in NEIGHBOURS)
    found = impute(tf.constant(image[None]), tf.constant(known[None])).numpy()[0]
    assert found[3, 4] == pytest.approx(expected, rel=1e-5)


def test_what_was_removed_leaves_no_trace(pixels: Pixels) -> None:
    known = np.ones((1, 96, 96), bool)
    known[:, 20:50, 30:70] = False
    other = pixels[:1].astype(np.float32).copy()
    other[~known] = 255
    first = impute(tf.constant(pixels[:1].astype(np.float32)), tf.constant(known)).numpy()
    np.testing.assert_array_equal(first, impute(tf.constant(other), tf.constant(known)).numpy())


@pytest.mark.parametrize("side", [32, 50, 97])
def test_any_size_and_an_image_of_which_nothing_is_known(side: int) -> None:
    image = tf.ones((1, side, side)) * 7
    assert impute(image, tf.zeros((1, side, side), tf.bool)).numpy().max() == 0
    one = np.zeros((1, side, side), bool)
    one[0, 3, 3] = True
    np.testing.assert_allclose(impute(image, tf.constant(one)).numpy(), 7, atol=1e-4)
