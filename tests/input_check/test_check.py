"""The shipped version says what is odd about a picture, and nothing of radiographs as they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from worker.errors import ModelError
from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.explain.pipeline import ImageResult, ImageTask, Pipeline
from worker.images.limits import Limits
from worker.images.preprocess import Pixels, preprocess
from worker.images.reader import Radiograph, read_radiograph
from worker.input_check.check import InputCheck, load_check
from worker.model.metadata import ModelMetadata
from worker.model.network import load_model
from worker.model.store import STARTER
from worker.odd_words import ODD_WORDS, TURNED
from worker.train.check_copies import inverted, turned
from worker.train.drawn_pictures import draw_picture

SAMPLES = sorted((Path(__file__).parents[2] / "producer" / "samples").glob("*/*.png"))
Loaded = tuple[ModelMetadata, Any, InputCheck]


@pytest.fixture(scope="module")
def starter() -> Loaded:
    metadata, network = load_model(STARTER)
    check = load_check(STARTER, metadata)
    assert check is not None
    return metadata, network, check


@pytest.fixture(scope="module")
def explainer(starter: Loaded) -> Explainer:
    metadata, network, check = starter
    return Explainer(metadata, network, check=check)


@pytest.fixture(scope="module")
def radiographs(starter: Loaded) -> Pixels:
    given = starter[0].preprocessing
    return np.stack([preprocess(read_radiograph(file, Limits()), given) for file in SAMPLES])


def said(explainer: Explainer, pictures: Any) -> list[str]:
    found = explainer.explain(np.stack(list(pictures))).odd
    assert found is not None
    return found


def test_nothing_is_said_of_radiographs_of_another_hospital(
    explainer: Explainer, radiographs: Pixels
) -> None:
    assert said(explainer, radiographs) == [""] * len(SAMPLES)


@pytest.mark.parametrize(("quarters", "word"), list(enumerate(TURNED, start=1)))
def test_radiographs_that_are_turned_are_told(
    explainer: Explainer, radiographs: Pixels, quarters: int, word: str
) -> None:
    found = said(explainer, [turned(one, quarters) for one in radiographs])
    assert sum(word in words.split(",") for words in found) >= len(SAMPLES) - 1, found


def test_radiographs_that_are_inverted_are_told(explainer: Explainer, radiographs: Pixels) -> None:
    found = said(explainer, [inverted(one) for one in radiographs])
    assert found.count("inverted") >= len(SAMPLES) - 1, found


def test_photographs_are_no_radiographs(explainer: Explainer, starter: Loaded) -> None:
    pictures = [Image.fromarray(one) for one in load_sample_images().images]
    pictures.append(Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")))
    gray = [one.convert("L") for one in pictures]
    given = starter[0].preprocessing
    seen = [preprocess(Radiograph(one, one.width, one.height, ""), given) for one in gray]
    assert said(explainer, seen) == ["not-a-radiograph"] * 3


def test_what_is_said_of_an_image_does_not_depend_on_its_neighbours(
    explainer: Explainer, radiographs: Pixels
) -> None:
    mixed = np.concatenate([radiographs[:3], [inverted(one) for one in radiographs[:3]]])
    together = said(explainer, mixed)
    assert together == [said(explainer, [one])[0] for one in mixed]
    assert together == said(explainer, mixed[::-1])[::-1]


def test_a_check_changes_neither_scores_nor_maps(
    explainer: Explainer, starter: Loaded, radiographs: Pixels
) -> None:
    without = Explainer(starter[0], starter[1]).explain(radiographs)
    with_check = explainer.explain(radiographs)
    assert without.odd is None
    np.testing.assert_allclose(without.scores, with_check.scores, atol=1e-5)
    for name, maps in without.heatmaps.items():
        np.testing.assert_allclose(maps, with_check.heatmaps[name], atol=1e-4)


def by_odd(explainer: Explainer, folder: Path, odd: str) -> dict[str, ImageResult]:
    Image.fromarray(np.asarray(Image.open(SAMPLES[0]).convert("L").rotate(180))).save(folder / "turned.png")
    Image.open(SAMPLES[0]).convert("L").save(folder / "upright.png")
    tasks = [
        ImageTask(number, folder / name, folder / f"{name}.jpg", name)
        for number, name in enumerate(("turned.png", "upright.png"))
    ]
    with Pipeline(readers=1, renderers=1, batch_size=2) as pipeline:
        return {
            result.task.name: result
            for result in pipeline.run(explainer, tasks, ExplainOptions.model_validate({"odd": odd}))
        }


def test_an_odd_image_is_explained_and_marked_unless_told_otherwise(
    explainer: Explainer, tmp_path: Path
) -> None:
    found = by_odd(explainer, tmp_path, "flag")
    assert "turned-180" in str(found["turned.png"].odd)
    assert found["turned.png"].reason is None
    assert found["upright.png"].odd == ""
    assert (tmp_path / "turned.png.jpg").exists()


def test_refused_an_odd_image_fails_with_what_to_do_and_no_overlay(
    explainer: Explainer, tmp_path: Path
) -> None:
    found = by_odd(explainer, tmp_path, "refuse")
    refused = found["turned.png"]
    assert refused.reason == "odd"
    assert "turned-180" in str(refused.odd)
    assert "save it upright" in str(refused.error)
    assert "\n" not in str(refused.error)
    assert not (tmp_path / "turned.png.jpg").exists()
    assert found["upright.png"].reason is None


def test_a_version_without_a_check_says_that_nothing_was_checked(starter: Loaded, tmp_path: Path) -> None:
    metadata = starter[0].model_copy(update={"input_check": None})
    assert load_check(STARTER, metadata) is None
    task = ImageTask(0, SAMPLES[0], tmp_path / "one.jpg", "one.png")
    with Pipeline(readers=1, renderers=1, batch_size=1) as pipeline:
        (result,) = pipeline.run(Explainer(metadata, starter[1]), [task], ExplainOptions())
    assert result.reason is None
    assert result.odd is None


def test_a_check_for_another_layer_is_refused(starter: Loaded) -> None:
    record = starter[0].input_check
    assert record is not None
    other = starter[0].model_copy(update={"input_check": record.model_copy(update={"layer": "out_relu"})})
    with pytest.raises(ModelError, match="restore or import"):
        load_check(STARTER, other)


def test_words_follow_from_logits_and_thresholds() -> None:
    arrays = {
        "mean": np.zeros(3, np.float32),
        "scale": np.ones(3, np.float32),
        "weights": np.zeros((3, 7), np.float32),
        "bias": np.zeros(7, np.float32),
        "axes": np.eye(3, 1, dtype=np.float32),
        "spread": np.array([2.0, 1.0], np.float32),
    }
    arrays["weights"][0, 0], arrays["weights"][1, 1], arrays["weights"][2, 5] = 1, 1, 1
    check = InputCheck("x", arrays, dict.fromkeys(ODD_WORDS, 2.0))
    features = np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 4], [0, 3, 4], [-9, 0, 0]], np.float32)
    assert check.words(features) == [
        "", "not-a-radiograph", "inverted", "turned-180", "inverted,turned-180", "unlike-training",
    ]  # fmt: skip
    # Along the axis -9 / 2, nothing outside: sqrt((4.5**2 + 0) / 2).
    assert check.scores(features)["unlike-training"][5] == pytest.approx(np.sqrt(4.5**2 / 2))
    # Four positions, one of logit 4: 4 - log(3).
    assert check.scores(features)["turned-180"][3] == pytest.approx(4 - np.log(3))


def test_drawn_pictures_are_the_same_each_time_and_differ_by_number() -> None:
    first = [draw_picture(number, 64, 1) for number in range(32)]
    again = [draw_picture(number, 64, 1) for number in range(32)]
    assert all((one == two).all() for one, two in zip(first, again, strict=True))
    assert len({one.tobytes() for one in first}) == 32
