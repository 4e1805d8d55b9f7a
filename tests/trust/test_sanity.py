"""The weight-randomisation test: it lets a gradient method pass, and catches maps that show the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import worker.explain.cam as cam
from worker.explain.cam import Method, MethodInput
from worker.images.preprocess import Pixels
from worker.map_evaluation.bootstrap import Mean
from worker.map_evaluation.reports import Sanity
from worker.map_evaluation.sanity import check_sanity
from worker.map_evaluation.similarity import Similarity
from worker.model.metadata import ModelMetadata


class ShowsTheImage(Method):
    """Where activations are large, whatever the weights made of them: heat that follows the picture."""

    name = "shows-the-image"
    needs = MethodInput.NOTHING

    def compute_cam(self, activations: Any, evidence: Any) -> Any:
        height, width = activations.shape[1:3]
        return (
            tf.ones_like(activations[..., 0])
            * tf.reshape(tf.range(1.0, 1.0 + height), (1, height, 1))[:, :, : max(width, 1)]
        )


@pytest.fixture(scope="module")
def gradcam(model: tuple[ModelMetadata, Any], pixels: Pixels) -> Sanity:
    return check_sanity(*model, pixels, layer="block_12_add", method="gradcam")


def test_stages_go_from_the_scores_to_the_first_layers(gradcam: Sanity) -> None:
    parts = [stage.part for stage in gradcam.stages]
    assert parts[:3] == ["scores", "head", "last layers"]
    assert parts[3:] == [f"block_{number}" for number in range(16, -1, -1)] + ["first layers"]


def test_gradcam_changes_when_the_weights_are_forgotten(gradcam: Sanity) -> None:
    assert gradcam.passed
    assert gradcam.verdict.startswith("passed")
    assert abs(gradcam.stages[-1].similarity.spearman.value) < 0.5
    assert sum(stage.blank for stage in gradcam.stages) < 0.5 * 10 * len(gradcam.stages)


def test_trained_model_is_left_as_it_was(model: tuple[ModelMetadata, Any], pixels: Pixels) -> None:
    metadata, network = model
    before = [np.array(values) for values in network.get_weights()]
    check_sanity(metadata, network, pixels[:2], layer="block_12_add")
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_same_seed_gives_the_same_verdict(model: tuple[ModelMetadata, Any], pixels: Pixels) -> None:
    first, second = (check_sanity(*model, pixels[:3], layer="block_12_add", seed=5) for _ in range(2))
    assert first == second


def test_maps_that_do_not_depend_on_the_weights_fail(
    model: tuple[ModelMetadata, Any], pixels: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cam.METHODS, ShowsTheImage.name, ShowsTheImage)
    found = check_sanity(*model, pixels[:4], layer="block_12_add", method=ShowsTheImage.name)
    assert found.stages[-1].similarity.spearman.value == pytest.approx(1)
    assert not found.passed
    assert found.verdict.startswith("failed")


def test_hardly_alike_passes_and_clearly_alike_fails_whatever_unrelated_maps_are(gradcam: Sanity) -> None:
    def judged(last: float, level: float) -> bool:
        def likeness(value: float) -> Similarity:
            mean = Mean(value=value, low=value - 0.02, high=value + 0.02, images=10)
            return Similarity(spearman=mean, ssim=mean)

        stage = gradcam.stages[-1].model_copy(update={"similarity": likeness(last)})
        changed = gradcam.model_copy(update={"stages": (stage,), "unrelated": likeness(level)})
        return changed.passed

    assert judged(0.06, 0.01)
    assert not judged(0.3, 0.01)
    assert judged(0.3, 0.35)
    assert not judged(0.6, 0.9)
