"""Similarity of maps: its ends, and what it does not mind."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import spearmanr

from worker.explain.attribution import upsample
from worker.map_evaluation.similarity import similarity, spearman, structural, unrelated
from worker.model.metadata import read_metadata
from worker.model.store import STARTER
from worker.train.cam_evaluation import _repeatability

RANDOM = np.random.default_rng(3)
MAPS = RANDOM.random((12, 7, 7)).astype(np.float32)


def test_map_is_like_itself_and_unlike_its_reverse() -> None:
    assert spearman(MAPS[0], MAPS[0]) == pytest.approx(1)
    assert structural(MAPS[0], MAPS[0]) == pytest.approx(1)
    assert spearman(MAPS[0], 1 - MAPS[0]) == pytest.approx(-1)
    assert structural(MAPS[0], 1 - MAPS[0]) < 0


def test_rank_correlation_is_that_of_scipy() -> None:
    first, second = (upsample(one, 56, 56).ravel() for one in MAPS[:2])
    assert spearman(MAPS[0], MAPS[1]) == pytest.approx(spearmanr(first, second).statistic, abs=1e-6)


def test_rank_correlation_does_not_mind_the_scale_but_structure_does() -> None:
    assert spearman(MAPS[0], 0.2 * MAPS[0]) == pytest.approx(1)
    assert structural(MAPS[0], 0.2 * MAPS[0]) < 0.6


def test_blank_map_is_like_nothing() -> None:
    blank = np.zeros((7, 7), np.float32)
    assert spearman(blank, MAPS[0]) == 0
    assert structural(blank, MAPS[0]) < 0.1


def test_maps_of_different_sizes_can_be_compared() -> None:
    smooth = np.outer(np.arange(1, 15), np.arange(1, 15)).astype(np.float32) / 196
    coarse = smooth.reshape(7, 2, 7, 2).mean(axis=(1, 3))
    found = similarity([smooth], [coarse])
    assert found.spearman.value > 0.98
    assert found.ssim.value > 0.9


def test_unrelated_maps_are_hardly_alike() -> None:
    found = unrelated(MAPS)
    assert abs(found.spearman.value) < 0.15
    assert found.spearman.images == 12


@pytest.mark.parametrize("changed", [{"margin": 0.0}, {"margin": 0.1}])
def test_maps_of_other_parts_of_the_picture_are_not_compared(changed: dict[str, float]) -> None:
    """At a margin of 0.05 and of none, the same place in two maps is another in the image."""
    metadata = read_metadata(STARTER)
    other = metadata.preprocessing.model_copy(update=changed)
    best = SimpleNamespace(layer=metadata.default_layer, method="gradcam")
    found = _repeatability(
        None,
        None,
        [],
        metadata.model_copy(update={"preprocessing": other}),
        SimpleNamespace(best=best),
        STARTER,
    )
    assert found is None
