"""Fitting the input check of a version tells how far it is, and ends when it is told to."""

from __future__ import annotations

import pytest

from tests.support.shallow_network import shallow_network
from worker.train.cam_evaluation import unsaved_metadata
from worker.train.check_fitting import fit_check
from worker.train.dataset import LabelledDataset
from worker.train.recipe import Recipe
from worker.train.training_callbacks import TrainingStopped


def test_each_picture_is_counted_once_and_it_ends_at_once_when_told_to(
    dataset: LabelledDataset, tiny_recipe: Recipe
) -> None:
    network = shallow_network(input_shape=(96, 96, 3), alpha=0.35, include_top=False, weights=None)
    metadata = unsaved_metadata(network, dataset.classes, tiny_recipe)
    told: list[tuple[int, int]] = []
    training, validation = list(range(14)), list(range(14, 20))

    fit_check(metadata, network, dataset, training, validation, progress=lambda *done: told.append(done))

    # 13 copies to learn from, 7 to be judged by, and the drawn ones.
    total = 14 * 13 + 64 + 6 * 7 + 16
    assert [of for _, of in told] == [total] * len(told)
    counts = [done for done, _ in told]
    assert counts == sorted(set(counts))
    assert counts[-1] == total
    assert max(later - earlier for earlier, later in zip([0, *counts], counts, strict=False)) <= 32

    def stop(done: int, _of: int) -> None:
        told.append((done, 0))
        if done > 200:  # among the drawn pictures
            raise TrainingStopped("stopped, as asked")

    told.clear()
    with pytest.raises(TrainingStopped):
        fit_check(metadata, network, dataset, training, validation, progress=stop)
    assert told[-1][0] <= 232
