"""A model with a sigmoid for each class, which exclude each other, is measured on folders of its classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker.model.metadata import Layer, ModelMetadata, Weights
from worker.settings import load_settings
from worker.train.dataset import DatasetError
from worker.train.evaluation import labels_for, measured


def metadata_of(*, exclusive: bool) -> ModelMetadata:
    return ModelMetadata(
        version="v",
        output="sigmoid",
        exclusive=exclusive,
        classes=("Normal", "Opaque"),
        layers=(Layer(name="a", height=4, width=4, channels=1, is_cam_candidate=True),),
        default_layer="a",
        weights=Weights(sha256="0" * 64),
        created="now",
    )


def test_folders_of_its_classes_are_its_labels(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("XRAYCAM_HOME", str(tmp_path / "home"))
    folder, settings = make_folder(Normal=3, Opaque=3), load_settings()
    dataset = labels_for(metadata_of(exclusive=True), folder, None, settings, lambda _: None)
    assert dataset.findings is None
    assert dataset.counts() == {"Normal": 3, "Opaque": 3}
    scores = [[1.0, 0.5]] * 3 + [[-2.0, -1.0]] * 3
    found = measured(dataset, range(6), scores, 1.0, "sigmoid")
    assert found.metrics.accuracy == 1.0, "the most probable, below 0.5 too"
    assert found.metrics.auc == 0.0, "by the probability that runs give, not one that is made to sum to 1"
    found.draw(tmp_path)
    assert (tmp_path / "worst_mistakes.png").exists()
    with pytest.raises(DatasetError):
        labels_for(metadata_of(exclusive=False), folder, None, settings, lambda _: None)
