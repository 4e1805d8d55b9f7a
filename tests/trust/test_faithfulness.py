"""The figures reward maps that show what the score depends on, and only those."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from worker.images.preprocess import Pixels
from worker.map_evaluation.curves import CELL, Curves, pixel_ranking
from worker.map_evaluation.faithfulness import FRACTIONS, TWO_PLACES, FaithfulnessTest
from worker.map_evaluation.ranking import BLOB, RANDOM, baseline_maps, centred_blobs
from worker.model.metadata import ModelMetadata, Preprocessing

SIDE = 32
WHERE = (slice(8, 16), slice(20, 28))


@pytest.fixture(scope="module")
def looking_at_one_place() -> Any:
    """A network whose first score is how much brighter than mid-gray `WHERE` is, and whose second is 0."""
    inputs = keras.Input((SIDE, SIDE, 3))
    flat = keras.layers.Flatten()(inputs)
    scores = keras.layers.Dense(2)(flat)
    network = keras.Model(inputs, scores)
    kernel = np.zeros((SIDE, SIDE, 3, 2), np.float32)
    kernel[WHERE][..., 0] = 1 / (64 * 3)
    network.layers[-1].set_weights([kernel.reshape(-1, 2), np.zeros(2, np.float32)])
    return network


@pytest.fixture(scope="module")
def bright_there() -> Pixels:
    images = np.full((3, SIDE, SIDE), 40, np.uint8)
    images[(slice(None), *WHERE)] = 240
    return images


@pytest.fixture(scope="module")
def curves(looking_at_one_place: Any, bright_there: Pixels) -> dict[str, Curves]:
    right, wrong = np.zeros((3, 8, 8), np.float32), np.zeros((3, 8, 8), np.float32)
    right[:, 2:4, 5:7] = 1
    wrong[:, 5:7, 1:3] = 1
    test = FaithfulnessTest(looking_at_one_place, Preprocessing(size=SIDE))
    maps = {"right": right, "wrong": wrong, "blank": np.zeros((3, 8, 8), np.float32), **baseline_maps(3)}
    return test.curves(bright_there, [0, 0, 0], maps)


def test_map_of_the_place_that_counts_is_more_faithful_than_any_other(curves: dict[str, Curves]) -> None:
    best = curves["right"]
    for name in ("wrong", "blank", BLOB):
        other = curves[name]
        assert (best.faithfulness > other.faithfulness + 0.2).all(), name
        assert (best.deletion < other.deletion).all(), name
        assert (best.insertion > other.insertion).all(), name
        assert (best.road > other.road).all(), name
    # By chance a random map may be hot at the right place.
    assert (best.faithfulness > curves[RANDOM].faithfulness).all()


def test_areas_by_hand(looking_at_one_place: Any, bright_there: Pixels) -> None:
    # The place is 4 of 64 cells, the hottest: a tenth of the picture takes all of it away, or shows it.
    heat = np.zeros((3, 8, 8), np.float32)
    heat[:, 2:4, 5:7] = 1
    test = FaithfulnessTest(looking_at_one_place, Preprocessing(size=SIDE))
    found = test.curves(bright_there, [0, 0, 0], {"map": heat})["map"]
    whole = 240 / 127.5 - 1
    gray = bright_there[0].mean() / 127.5 - 1
    np.testing.assert_allclose(found.deletion, whole / 20 + gray * (9 + 0.5) / 10, atol=1e-5)
    assert (found.insertion > whole * 9.5 / 10 - 0.05).all()
    np.testing.assert_allclose(found.road_least_first, whole, atol=1e-5)
    # What replaces the place comes from around it, which is dark.
    np.testing.assert_allclose(found.road_most_first, 40 / 127.5 - 1, atol=0.02)


def test_score_of_the_class_asked_for_is_measured(looking_at_one_place: Any, bright_there: Pixels) -> None:
    test = FaithfulnessTest(looking_at_one_place, Preprocessing(size=SIDE))
    (found,) = test.curves(bright_there, [1, 1, 1], {"map": centred_blobs(3)}).values()
    for values in vars(found).values():
        assert not values.any()


def test_blank_map_is_a_random_order_and_not_the_order_of_pixels() -> None:
    ranks = pixel_ranking(np.zeros((2, 7, 7), np.float32), 64)
    assert ranks.shape == (2, 64 // CELL, 64 // CELL)
    assert abs(np.corrcoef(ranks[0].ravel(), np.arange(ranks[0].size))[0, 1]) < 0.2
    assert sorted((ranks[0] * ranks[0].size).round().astype(int).ravel()) == list(range(ranks[0].size))


def test_hottest_place_is_removed_first() -> None:
    heat = np.zeros((1, 8, 8), np.float32)
    heat[0, 3, 6] = 1
    (ranks,) = pixel_ranking(heat, 32)
    assert ranks[3, 6] == 0


def test_figures_of_an_image_do_not_depend_on_the_others(
    model: tuple[ModelMetadata, Any], pixels: Pixels
) -> None:
    metadata, network = model
    test = FaithfulnessTest(network, metadata.preprocessing)
    maps = baseline_maps(len(pixels))
    together = test.curves(pixels, np.zeros(len(pixels), int), maps)[RANDOM]
    alone = test.curves(pixels[4:5], [0], {RANDOM: maps[RANDOM][4:5]})[RANDOM]
    for name, values in vars(alone).items():
        np.testing.assert_allclose(values[0], vars(together)[name][4], atol=1e-4)


def test_fractions_are_tenths() -> None:
    assert FRACTIONS == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def test_two_places_give_the_area_and_the_mean_of_a_curve_of_the_third_degree() -> None:
    def curve(share: Any) -> Any:
        return 1 + 2 * share - 5 * share**2 + 3 * share**3

    area = sum(curve(np.array(TWO_PLACES.area))) / 2
    assert area == pytest.approx(1 + 2 / 2 - 5 / 3 + 3 / 4)
    fine = (np.arange(9000) + 0.5) / 10000 + 0.05
    assert sum(curve(np.array(TWO_PLACES.mean))) / 2 == pytest.approx(curve(fine).mean(), abs=1e-6)
