"""What predictions rest on is found by hiding it."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from worker.images.preprocess import Pixels
from worker.map_evaluation.occlusion import occlusion_sensitivity
from worker.map_evaluation.occlusion_report import MIN_IMAGES, OcclusionReport
from worker.map_evaluation.reports import REGIONS, reliance
from worker.model.metadata import Layer, ModelMetadata, Preprocessing, Weights

SIDE = 64
CORNER = (slice(4, 12), slice(4, 12))
MIDDLE = (slice(28, 36), slice(28, 36))


def looking_at(place: tuple[slice, slice]) -> tuple[ModelMetadata, Any]:
    """A model whose second class is ahead by how much brighter than mid-gray `place` is."""
    inputs = keras.Input((SIDE, SIDE, 3))
    network = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    kernel = np.zeros((SIDE, SIDE, 3, 2), np.float32)
    kernel[place][..., 1] = 1 / (64 * 3)
    network.layers[-1].set_weights([kernel.reshape(-1, 2), np.zeros(2, np.float32)])
    layer = Layer(name="none", height=1, width=1, channels=1, is_cam_candidate=False)
    metadata = ModelMetadata(
        version="linear",
        classes=("Normal", "Tuberculosis"),
        preprocessing=Preprocessing(size=SIDE),
        layers=(layer,),
        default_layer="none",
        weights=Weights(sha256="0" * 64),
        created="2025-01-01T00:00:00Z",
    )
    return metadata, network


def bright_at(*places: tuple[slice, slice]) -> Pixels:
    images = np.full((10, SIDE, SIDE), 30, np.uint8)
    for place in places:
        images[(slice(None), *place)] = 255
    return images


def test_model_that_looks_at_a_corner_is_told_of() -> None:
    (found,) = occlusion_sensitivity(*looking_at(CORNER), bright_at(CORNER, MIDDLE))
    assert (found.class_name, found.images) == ("Tuberculosis", 10)
    assert found.hidden["top left corner"].changed == 1
    assert found.hidden["top left corner"].lost > 1
    assert abs(found.hidden["middle"].lost) < 0.05
    assert abs(found.hidden["bottom right corner"].lost) < 0.05
    assert "looks at the top left corner" in found.warnings[0]
    assert not [text for text in found.warnings if "middle:" not in text]


def test_few_images_say_nothing_of_a_model() -> None:
    (found,) = occlusion_sensitivity(*looking_at(CORNER), bright_at(CORNER, MIDDLE)[: MIN_IMAGES - 1])
    assert found.hidden["top left corner"].changed == 1
    assert found.warnings == []


def test_model_that_looks_at_the_middle_is_not() -> None:
    (found,) = occlusion_sensitivity(*looking_at(MIDDLE), bright_at(CORNER, MIDDLE))
    assert found.hidden["middle"].lost > 1
    assert found.warnings == []


def test_classes_are_judged_apart() -> None:
    images = np.concatenate([bright_at(CORNER), bright_at()])
    normal, ill = occlusion_sensitivity(*looking_at(CORNER), images)
    assert (normal.class_name, ill.class_name) == ("Normal", "Tuberculosis")
    assert normal.images == ill.images == 10


def test_lost_and_changed_by_hand() -> None:
    scores = np.zeros((2, 1 + len(REGIONS), 3))
    scores[0, 0], scores[1, 0] = [4, 1, 0], [3, 0, 2]
    scores[:, 1:] = scores[:, :1]
    scores[0, 1] = [0, 1, 0]  # 3 ahead becomes 1 behind
    (found,) = reliance(scores, ("a", "b", "c"))
    # On average 2 ahead, then 0.
    assert found.hidden["top left corner"].lost == pytest.approx(1)
    assert found.hidden["top left corner"].changed == 0.5
    assert found.hidden["middle"].lost == 0
    assert OcclusionReport.model_validate_json(found.model_dump_json()) == found


def test_corners_are_a_sixteenth_of_the_picture_each_and_the_middle_a_quarter() -> None:
    shares = {name: place(160).mean() for name, place in REGIONS.items()}
    assert [round(share, 4) for share in shares.values()] == [0.0625] * 4 + [0.4375, 0.25]
