"""The model card says what the training's record says, and nothing that it does not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner
from rich.console import Console

from producer.commands.dataset import _table as evaluation_table
from producer.commands.train import train_command
from producer.training_progress import describe
from producer.viewer.model_facts import model_sections
from worker.interval_words import leading_of
from worker.model.metadata import ModelMetadata, read_metadata
from worker.model.store import STARTER
from worker.train.dataset import load_labelled_folder
from worker.train.metrics import compute_metrics
from worker.train.model_card import model_card, training_record
from worker.train.recipe import DEFAULT
from worker.train.splits import train_val_split

LINE = "A. Author: A set of radiographs. A Journal, 2020."


def described(**changes: Any) -> ModelMetadata:
    """The starter's metadata as if its training had been another."""
    starter = read_metadata(STARTER)
    training = {k: v for k, v in starter.training.items() if k not in ("source", "cross_validation")}
    assert starter.input_check is not None
    figures = {k: v for k, v in starter.input_check.figures.items() if k != "elsewhere"}
    check = starter.input_check.model_copy(update={"figures": figures})
    return starter.model_copy(update={"training": training | changes, "input_check": check})


def ranked(layer: str, value: float, blank: int) -> dict[str, Any]:
    mean = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {
        "layer": layer, "method": "gradcam", "resolution": [7, 7], "blank": blank,
        "faithfulness": {"faithfulness": mean},
    }  # fmt: skip


def with_pairs(*pairs: dict[str, Any]) -> str:
    ranking = {"images": 20, "pairs": list(pairs), "baselines": []}
    return model_card(described(ranking=ranking).model_copy(update={"default_layer": "block_12_add"}))


def test_no_paper_is_cited_that_the_training_was_not_given() -> None:
    card = model_card(described(data=described().training["data"] | {"name": "our-hospital"}))
    assert "Jaeger" not in card
    assert "Candemir" not in card
    assert "henzhen" not in card
    assert "one source" not in card
    assert "the source was not given" in card
    assert "MobileNetV2: Inverted residuals" in card


def test_the_source_given_is_cited_line_by_line() -> None:
    card = model_card(described(source=[LINE, "Another line."]))
    assert f"- {LINE}\n- Another line.\n" in card
    assert "was not given" not in card


def test_the_starter_cites_the_source_of_its_images() -> None:
    card = model_card(read_metadata(STARTER))
    for part in ("Shenzhen No. 3 Hospital", "S. Jaeger", "S. Candemir"):
        assert part in card


def test_the_limits_name_the_images_that_were_counted() -> None:
    data = {
        "name": "our-hospital", "digest": "0" * 64, "images": {"a": 50, "b": 60},
        "training": {"a": 40, "b": 50}, "validation": {"a": 10, "b": 10}, "skipped": 3,
        "skipped_by_reason": {"sample": 2, "truncated": 1},
    }  # fmt: skip
    card = model_card(described(data=data))
    assert "Trained on 90 images of `our-hospital`, and measured on 20 others" in card
    assert "20 validation images leave the figures uncertain" in card
    assert "3 files left out (2 sample, 1 truncated)" in card


def test_a_default_that_leads_the_table_is_called_the_most_faithful() -> None:
    card = with_pairs(ranked("block_12_add", 1.4, 0), ranked("out_relu", 0.3, 0))
    assert "`block_12_add` with gradcam: the most faithful of those measured on 20 validation images" in card


def test_a_leader_left_out_for_blank_maps_is_named_above_the_table() -> None:
    card = with_pairs(ranked("out_relu", 1.9, 9), ranked("block_12_add", 1.4, 2))
    assert "the most faithful that leaves at most 10% of the images without a map" in card
    assert "More faithful but blank more often: `out_relu` gradcam." in card


def test_a_default_that_is_simply_not_the_leader_is_not_called_so() -> None:
    card = with_pairs(ranked("out_relu", 1.9, 0), ranked("block_12_add", 1.4, 0))
    assert "number 2 by faithfulness" in card
    assert "most faithful" not in card.split("| layer and method |")[0]
    assert "not among those measured" in with_pairs(ranked("out_relu", 1.9, 0))


def test_the_record_keeps_source_and_reasons(make_folder: Any) -> None:
    dataset = load_labelled_folder(make_folder(Clear=12, Opaque=12))
    parts = train_val_split(dataset, share=0.25, seed=0)
    labels = np.array([dataset.labels[index] for index in parts.validation])
    figures = compute_metrics(labels, np.eye(2, dtype=np.float32)[labels], dataset.classes)
    record = training_record(
        dataset, parts, DEFAULT, source=(LINE,), started_from="random weights", history=[{"loss": 1.0}],
        best_epoch=1, validation=figures,
    )  # fmt: skip
    assert record["source"] == [LINE]
    assert record["data"]["skipped_by_reason"] == {}
    assert f"- {LINE}" in model_card(described(**record))


def test_the_command_explains_the_option(tmp_path: Path) -> None:
    result = CliRunner().invoke(train_command, ["--help"])
    assert "--source TEXT" in result.output
    assert not list(tmp_path.iterdir())


def test_cross_validated_figures_are_told_in_all_and_by_source() -> None:
    pooled = {
        "auc": 0.91, "auc_interval": [0.88, 0.94], "sensitivity": 0.8, "specificity": 0.9,
        "specificity_at_sensitivity_90": 0.7,
    }  # fmt: skip
    one = {
        "folds": [{}, {}], "fold_auc": [0.9, 0.94], "mean_auc": 0.92, "pooled": pooled, "heat": {},
        "epoch_chosen_on_held_out_images": False,
        "by_source": {"north": {"images": 40, "auc": 0.95, "auc_interval": [0.9, 0.99]}},
    }  # fmt: skip
    card = model_card(described(cross_validation={"default": one}))
    assert "2 folds; every image is judged by a network that has not seen it" in card
    assert "| default | 0.920 | 0.900, 0.940 | 0.910 (0.880 to 0.940) | 0.800 / 0.900 | 0.700 |" in card
    assert "| north | 40 | 0.950 (0.900 to 0.990) |" in card
    assert "On changed copies" not in card
    changed = one | {"pooled_auc_on_changed_copies": {"darker": 0.85}}
    assert "| darker | 0.850 |" in model_card(described(cross_validation={"default": changed}))


def test_everyone_names_the_class_that_sensitivity_is_for() -> None:
    """The first by name may be the positive one; who reads the other's sensitivity as its is misled."""
    scores = np.log([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    found = compute_metrics([0, 0, 1, 1], scores, ("COVID", "Normal"), positive_class="COVID")
    figures = found.model_dump(mode="json")
    assert (figures["sensitivity"], figures["specificity"]) == (1.0, 0.0)
    card = model_card(described(validation=figures))
    assert "| sensitivity for COVID at 0.5 | 1.000 (" in card
    assert "| specificity for COVID at 0.5 | 0.000 (" in card
    table = io.StringIO()
    evaluation_table({"figures": figures, "model": "v"}).print(Console(file=table, width=100))
    assert "sensitivity for COVID at 0.5" in table.getvalue()
    sections = model_sections(described(validation=figures))
    assert sections[0]["rows"][1][0] == "Sensitivity for COVID at probability 0.5"
    assert "sensitivity for COVID 1.000" in describe(figures)
    assert leading_of({"sensitivity": 1.0}, ("Normal", "COVID")) == "COVID", "as older records mean it"
    assert leading_of({"output": "sigmoid"}, ("A", "B")) is None
