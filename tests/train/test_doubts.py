"""A version that says the same of every image, or nothing better than chance, is said to do so."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.train.test_model_card import described
from worker.model.doubts import doubts, is_flat
from worker.train.flat_classes import flat_classes
from worker.train.metrics import compute_metrics
from worker.train.model_card import model_card

NAMES = ("Disc", "Bar", "Cross")


def of_findings(scores: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> dict[str, Any]:
    found = compute_metrics(truth, scores, NAMES[: scores.shape[1]], resamples=100)
    plain: dict[str, Any] = json.loads(found.model_dump_json())
    return plain


@pytest.fixture
def pictures() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Scores and truth of 60 images: Disc is found, Bar is constant, Cross is guessed at and rare."""
    rng = np.random.default_rng(3)
    truth = np.column_stack([np.arange(60) % 2, np.arange(60) % 2, np.arange(60) % 12 == 0]).astype(float)
    disc, cross = 8.0 * truth[:, 0] - 4.0, rng.normal(-4.0, 0.3, 60)
    return np.column_stack([disc + rng.normal(0, 1, 60), np.full(60, -1.2), cross]), truth


def test_a_finding_with_one_probability_for_all_images_is_named(
    pictures: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
) -> None:
    figures = of_findings(*pictures)
    assert figures["flat"] == ["Bar"]
    assert not is_flat(figures)
    said = doubts(figures)
    assert said[0] == "nearly the same probability of Bar for all 60 images: nothing was learned there"
    assert said[1].startswith("not shown to be better than chance, 0.5, by AUC (95% interval): Cross 0.")
    assert said[2] == "never at 0.5 or more, so that 'class' and captions do not name it: Bar, Cross"
    assert said[3] == "fewer than 20 images with Cross (5): uncertain figures, see the intervals"
    assert doubts(figures, name_rare=False) == said[:3]


def test_a_model_of_findings_that_is_right_is_not_doubted() -> None:
    truth = np.column_stack([np.arange(80) % 2, np.arange(80) % 4 < 2]).astype(float)
    assert doubts(of_findings(8.0 * truth - 4.0, truth)) == []


@pytest.mark.parametrize("classes", [2, 3])
def test_a_model_of_classes_that_says_the_same_of_all_is_said_to(classes: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % classes
    common = rng.normal(0, 5, (60, 1))  # added to all scores it changes no probability
    scores = common + np.arange(classes) + rng.uniform(0, 0.01, (60, classes))
    figures = json.loads(compute_metrics(labels, scores, NAMES[:classes], resamples=50).model_dump_json())
    assert is_flat(figures)
    assert doubts(figures) == ["nearly the same probability for all 60 images: nothing was learned there"]


def test_a_class_that_is_never_the_most_probable_is_named() -> None:
    labels = np.arange(60) % 3
    scores = np.eye(3)[labels] * [6.0, 6.0, 1.0] + [0.0, 0.0, -3.0]
    figures = json.loads(compute_metrics(labels, scores, NAMES, resamples=50).model_dump_json())
    assert doubts(figures) == ["never the most probable, so that 'class' does not name it: Cross"]
    assert doubts(json.loads(compute_metrics(labels, 4 * np.eye(3)[labels], NAMES).model_dump_json())) == []


def test_few_images_that_happen_to_look_alike_make_no_flat_model() -> None:
    assert flat_classes(np.zeros((9, 2)), ("a", "b"), "softmax") == ()
    assert flat_classes(np.zeros((10, 2)), ("a", "b"), "softmax") == ("a", "b")


def test_a_confident_model_with_two_levels_is_not_flat() -> None:
    scores = np.array([[0.0, 30.0], [30.0, 0.0]] * 10)
    assert flat_classes(scores, ("a", "b"), "softmax") == ()


def test_the_card_has_the_doubts_among_its_limits(
    pictures: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]],
) -> None:
    counts = dict.fromkeys(NAMES, 60)
    data = described().training["data"] | {"images": counts, "training": counts, "validation": counts}
    card = model_card(described(validation=of_findings(*pictures), data=data))
    limits = card.split("## Limits")[1]
    assert "- On the validation images: nearly the same probability of Bar for all 60 images" in limits
