"""Ranking: all pairs and baselines on the same images, bounded in time, the best one chosen by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from worker.errors import XraycamError
from worker.images.preprocess import Pixels
from worker.map_evaluation.plots import plot_ranking
from worker.map_evaluation.ranking import BLOB, RANDOM, layers_to_rank, rank
from worker.map_evaluation.reports import Ranking
from worker.map_evaluation.sample import UNKNOWN, Sample, draw_sample
from worker.model.metadata import ModelMetadata

LAYERS = ("block_9_add", "block_12_add")


@pytest.fixture(scope="module")
def ranking(model: tuple[ModelMetadata, Any], pixels: Pixels) -> Ranking:
    areas = np.zeros((len(pixels), 96, 96), np.uint8)
    areas[:, 40:60, 40:60] = 255
    marked = Sample((), pixels, (1,) * len(pixels), tuple(areas))
    return rank(*model, pixels, layers=LAYERS, methods=("gradcam", "hirescam"), marked=marked)


def test_every_pair_is_ranked_and_the_most_faithful_comes_first(ranking: Ranking) -> None:
    assert {(pair.layer, pair.method) for pair in ranking.pairs} == {
        (layer, method) for layer in LAYERS for method in ("gradcam", "hirescam")
    }
    values = [pair.faithfulness.faithfulness.value for pair in ranking.pairs]
    assert values == sorted(values, reverse=True)
    assert ranking.images == ranking.marked_images == 10
    assert [row.layer for row in ranking.baselines] == [RANDOM, BLOB]
    for row in (*ranking.pairs, *ranking.baselines):
        mean = row.faithfulness.faithfulness
        assert mean.low <= mean.value <= mean.high
        assert row.localisation is not None
        assert row.localisation.area == pytest.approx(400 / 96**2)
    assert ranking.pairs[0].resolution == (6, 6)


def test_a_map_of_what_the_score_rests_on_beats_one_that_knows_nothing(ranking: Ranking) -> None:
    known_nothing = max(row.faithfulness.faithfulness.value for row in ranking.baselines)
    assert ranking.best.faithfulness.faithfulness.value > known_nothing


def test_pair_that_leaves_many_images_blank_is_not_the_best(ranking: Ranking) -> None:
    first, second, *rest = ranking.pairs
    changed = ranking.model_copy(
        update={
            "pairs": (first.model_copy(update={"blank": 2}), second.model_copy(update={"blank": 1}), *rest)
        }
    )
    assert changed.best.name == second.name
    all_blank = tuple(pair.model_copy(update={"blank": 9}) for pair in ranking.pairs)
    assert ranking.model_copy(update={"pairs": all_blank}).best.name == first.name


def test_time_is_bounded_but_eight_images_are_measured(
    model: tuple[ModelMetadata, Any], pixels: Pixels
) -> None:
    found = rank(*model, pixels, layers=LAYERS[1:], methods=("gradcam",), seconds=0)
    assert found.images == 8
    assert found.pairs[0].faithfulness.road.images == 8


def test_halved_the_better_half_of_eight_images_is_measured_on_all_and_the_rest_come_after(
    model: tuple[ModelMetadata, Any], pixels: Pixels, ranking: Ranking
) -> None:
    methods = ("gradcam", "hirescam")
    of_eight = rank(*model, pixels[:8], layers=LAYERS, methods=methods)
    halved = rank(*model, pixels, layers=LAYERS, methods=methods, halve=True)
    whole = {pair.name: pair.faithfulness for pair in ranking.pairs}
    early = {pair.name: pair.faithfulness for pair in of_eight.pairs}
    assert halved.images == 10
    assert [pair.images for pair in halved.pairs] == [None, None, 8, 8]
    assert {pair.name for pair in halved.pairs[:2]} == {pair.name for pair in of_eight.pairs[:2]}
    for pair in halved.pairs[:2]:
        assert pair.faithfulness.faithfulness.value == pytest.approx(whole[pair.name].faithfulness.value)
    for pair in halved.pairs[2:]:
        assert pair.faithfulness.faithfulness.value == pytest.approx(early[pair.name].faithfulness.value)
    assert [row.images for row in halved.baselines] == [None, None]
    rare = halved.model_copy(
        update={"pairs": tuple(pair.model_copy(update={"blank": 1}) for pair in halved.pairs)}
    )
    assert [rare.is_blank_too_often(pair) for pair in rare.pairs] == [False, False, True, True]


def test_ranking_survives_being_written_and_is_drawn(ranking: Ranking, tmp_path: Path) -> None:
    assert Ranking.model_validate_json(ranking.model_dump_json()) == ranking
    plot_ranking(ranking, tmp_path / "ranking.png")
    with Image.open(tmp_path / "ranking.png") as picture:
        assert picture.width > 600


def test_outputs_of_blocks_are_ranked_unless_told(model: tuple[ModelMetadata, Any]) -> None:
    assert layers_to_rank(model[0]) == (
        "block_7_add", "block_8_add", "block_9_add", "block_10_project_BN", "block_11_add", "block_12_add"
    )  # fmt: skip


def test_sample_takes_as_many_of_each_class_and_skips_what_cannot_be_read(
    model: tuple[ModelMetadata, Any], pixels: Pixels, tmp_path: Path
) -> None:
    for name, count in (("Normal", 9), ("Tuberculosis", 3)):
        (tmp_path / name).mkdir()
        for number in range(count):
            Image.fromarray(pixels[number]).save(tmp_path / name / f"{number}.png")
    (tmp_path / "Tuberculosis" / "broken.png").write_bytes(b"no image")
    (tmp_path / "lesions.json").write_text("{}")
    said: list[str] = []
    sample = draw_sample(tmp_path, model[0], 8, on_message=said.append)
    assert len(sample) == 8
    assert sorted(sample.labels) == [0] * 5 + [1] * 3
    assert sample.pixels.shape == (8, 96, 96)
    assert len([text for text in said if "broken.png" in text]) == len(said)
    assert draw_sample(tmp_path, model[0], 8).files == sample.files
    with pytest.raises(XraycamError, match="holds no image with something marked"):
        draw_sample(tmp_path, model[0], 8, only_marked=True)


def test_an_image_in_a_folder_of_a_patient_is_of_the_class_above_it(
    model: tuple[ModelMetadata, Any], pixels: Pixels, tmp_path: Path
) -> None:
    """Else its map, judged by the marked area, would be that of the predicted class."""
    data = tmp_path / "Normal" / "data"  # what lies above the folder that is named says nothing
    for number, place in enumerate(("Tuberculosis/p1", "Tuberculosis/p2/2024", "Tuberculosis", "other/p3")):
        (data / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number]).save(data / place / f"{number}.png")
    found = draw_sample(data, model[0], 8)
    labels = {file.stem: label for file, label in zip(found.files, found.labels, strict=True)}
    assert labels == {"0": 1, "1": 1, "2": 1, "3": UNKNOWN}
    assert draw_sample(data / "Tuberculosis", model[0], 8).labels == (1, 1, 1)
    assert draw_sample(data / "Tuberculosis" / "p1" / "0.png", model[0], 8).labels == (UNKNOWN,)
