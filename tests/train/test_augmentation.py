"""Augmentation: what augmentation may and may not do to a chest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.corruptions import CORRUPTIONS, MARKERS_HIDDEN, corrupted_inputs
from benchmarks.placement import mask_in_input, placement
from worker.images.preprocess import preprocess
from worker.images.reader import Radiograph
from worker.model.metadata import Preprocessing
from worker.train.augmentation import augment
from worker.train.dataset import load_labelled_folder
from worker.train.metrics import compute_metrics
from worker.train.plots import (
    plot_confusion_matrix,
    plot_learning_curves,
    plot_reliability,
    plot_roc,
    plot_worst_mistakes,
)
from worker.train.recipe import ChestAugmentation

MakeFolder = Callable[..., Path]

STILL = ChestAugmentation(
    flip=0,
    rotation=0,
    window=(1.0, 1.0),
    aspect=0,
    shift=0,
    gamma=0,
    contrast=0,
    brightness=0,
    blur=0,
    noise=0,
    erase=0,
    border=0,
)
PREPROCESSING = Preprocessing(size=64, margin=0.05)


def radiograph_of(pixels: np.ndarray) -> Radiograph:
    return Radiograph(Image.fromarray(pixels), pixels.shape[1], pixels.shape[0], "")


@pytest.fixture
def ramp() -> Radiograph:
    """Darker above, brighter below: upside down would show."""
    return radiograph_of(np.linspace(20, 230, 200)[:, None].repeat(160, 1).astype(np.uint8))


def test_a_copy_of_no_change_is_the_networks_input(ramp: Radiograph) -> None:
    copy, area = augment(ramp, PREPROCESSING, STILL, (0, 0, 0))
    np.testing.assert_array_equal(copy, preprocess(ramp, PREPROCESSING))
    assert area is None


def test_equal_keys_give_equal_copies_and_others_differ(ramp: Radiograph) -> None:
    settings = ChestAugmentation()
    first, _ = augment(ramp, PREPROCESSING, settings, (1, 2, 3))
    again, _ = augment(ramp, PREPROCESSING, settings, (1, 2, 3))
    other, _ = augment(ramp, PREPROCESSING, settings, (1, 2, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_no_copy_is_upside_down(ramp: Radiograph) -> None:
    settings = ChestAugmentation(erase=0, border=0)
    for copy in range(30):
        pixels, _ = augment(ramp, PREPROCESSING, settings, (0, 0, copy))
        assert pixels[8:24].mean() < pixels[40:56].mean()


def test_the_marked_area_moves_with_the_image() -> None:
    pixels = np.zeros((128, 128), np.uint8)
    pixels[30:60, 70:110] = 255
    marked = Image.fromarray(pixels)
    settings = STILL.model_copy(
        update={"flip": 0.5, "rotation": 15, "window": (0.8, 1.2), "aspect": 0.2, "shift": 0.1}
    )
    for number in range(10):
        copy, area = augment(radiograph_of(pixels), PREPROCESSING, settings, (0, 0, number), marked)
        assert area is not None
        inside = area > 127
        assert copy[inside].mean() > 200
        assert (area[copy < 30] < 127).all()


def test_what_is_painted_over_is_no_longer_marked() -> None:
    pixels = np.full((128, 128), 255, np.uint8)
    settings = STILL.model_copy(update={"erase": 1.0, "border": 1.0})
    copy, area = augment(radiograph_of(pixels), PREPROCESSING, settings, (0, 0, 1), Image.fromarray(pixels))
    assert area is not None
    assert (area[copy != 255] == 0).all()
    assert (copy != 255).any()


def test_heat_placement_by_hand() -> None:
    area = np.zeros((4, 4), np.uint8)
    area[0, :2] = 255
    on_it, beside, blank = np.zeros((3, 4, 4), np.float32)
    on_it[0, 0], on_it[3, 3] = 3, 1
    beside[3, 3], beside[0, 1] = 3, 1
    found = placement([on_it, beside, blank], [area] * 3)
    assert found.hit_rate == pytest.approx(1 / 3)
    assert found.share_of_heat == pytest.approx((0.75 + 0.25 + 0) / 3)
    assert found.area == pytest.approx(2 / 16)
    assert found.blank == 1


def test_the_area_is_cut_as_the_image_is() -> None:
    marked = Image.new("L", (100, 100))
    marked.paste(255, (0, 0, 5, 100))
    assert not mask_in_input(marked, Preprocessing(size=64, margin=0.06)).any()
    assert mask_in_input(marked, Preprocessing(size=64)).any()


def test_changed_copies_keep_the_size_and_hide_the_markers() -> None:
    pixels = np.full((100, 100), 40, np.uint8)
    pixels[2:6, 80:95] = 255
    for change in CORRUPTIONS.values():
        assert corrupted_inputs([radiograph_of(pixels)], change, PREPROCESSING).shape == (1, 64, 64)
    change = CORRUPTIONS[MARKERS_HIDDEN]
    hidden = corrupted_inputs([radiograph_of(pixels)], change, Preprocessing(size=100))[0]
    assert hidden.max() < 60


def test_pictures_are_written(make_folder: MakeFolder, tmp_path: Path) -> None:
    dataset = load_labelled_folder(make_folder(Clear=6, Opaque=6), min_per_class=2)
    scores = np.random.default_rng(0).normal(size=(12, 2))
    metrics = compute_metrics(np.array(dataset.labels), scores, dataset.classes, resamples=20)
    history = [
        {"stage": stage, "epoch": n, "loss": 1 / n, "val_loss": 1 / n, "val_auc": 0.8, "val_accuracy": 0.7}
        for n, stage in ((1, "head"), (2, "network"), (3, "network"))
    ]
    plot_learning_curves(history, tmp_path / "curves.png")
    plot_roc(dataset.labels, scores, dataset.classes, tmp_path / "roc.png")
    plot_confusion_matrix(metrics, tmp_path / "confusion.png")
    plot_reliability(metrics, tmp_path / "reliability.png")
    plot_worst_mistakes(dataset, range(12), scores, tmp_path / "mistakes.png", side=64)
    for file in tmp_path.glob("*.png"):
        with Image.open(file) as picture:
            assert min(picture.size) > 60
