"""A new version becomes current by rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from db.ledger import Ledger
from tests.support.made_versions import make_current, make_version, reference_scores
from worker.model.metadata import read_metadata, write_metadata
from worker.model.store import ModelStore
from worker.train.dataset import LabelledDataset
from worker.train.held_out import pack_digests
from worker.train.metrics import compute_metrics
from worker.train.options import TrainOptions
from worker.train.promotion import apply_promotion_rule, decide_promotion
from worker.train.recipe import Recipe


def test_the_rule_allows_as_much_less_as_it_says() -> None:
    assert apply_promotion_rule(0.90, "v1", 0.90, 0.0).promote
    assert apply_promotion_rule(0.89, "v1", 0.90, 0.01).promote
    assert not apply_promotion_rule(0.889, "v1", 0.90, 0.01).promote
    assert not apply_promotion_rule(float("nan"), "v1", 0.90, 0.01).promote
    reason = apply_promotion_rule(0.889, "v1", 0.90, 0.01).reason
    assert reason == (
        "not promoted: AUC 0.8890, the current version v1 has 0.9000 on the same images, "
        "and 0.01 less is allowed"
    )


def test_a_version_is_compared_with_the_current_one_on_the_same_images(
    known: Ledger, store: ModelStore, dataset: LabelledDataset, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    folder = make_version(tmp_path / "made", "before-1", tiny_recipe, dataset.classes)
    make_current(known, store, folder, "before-1", dataset.classes)
    images = (0, 1, 2, 10, 11, 12)
    before = compute_metrics(
        np.array(dataset.labels)[list(images)],
        reference_scores(folder, dataset)[list(images)],
        dataset.classes,
    ).auc
    options = TrainOptions(tolerance=0.05)
    better = decide_promotion(before - 0.04, options, known, store, dataset, images, folder)
    worse = decide_promotion(before - 0.06, options, known, store, dataset, images, folder)
    assert (better.promote, worse.promote) == (True, False)
    assert f"the current version before-1 has {before:.4f} on the same images" in worse.reason
    always = TrainOptions(promote="always")
    assert decide_promotion(0.0, always, known, store, dataset, images, folder).promote
    assert not decide_promotion(
        1.0, TrainOptions(promote="never"), known, store, dataset, images, folder
    ).promote


def test_images_that_the_current_version_was_trained_on_are_left_out(
    known: Ledger, store: ModelStore, dataset: LabelledDataset, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    candidate = make_version(tmp_path / "candidate", "new-1", tiny_recipe, dataset.classes)
    normal = [index for index in range(len(dataset)) if dataset.labels[index] == 0]
    other = [index for index in range(len(dataset)) if dataset.labels[index] == 1]
    images = (*normal[:8], *other[:8])
    for version, seen, is_compared in (("few-1", 3, True), ("most-1", 4, False)):
        trained = [*normal[:seen], *other[:seen]]
        folder = make_version(tmp_path / version, version, tiny_recipe, dataset.classes)
        metadata = read_metadata(folder)
        record = {**metadata.training, "training_images": pack_digests(dataset.sha256[i] for i in trained)}
        write_metadata(folder, metadata.model_copy(update={"training": record}))
        make_current(known, store, folder, version, dataset.classes)
        decision = decide_promotion(
            1.0, TrainOptions(tolerance=1.0), known, store, dataset, images, candidate
        )
        assert decision.promote is is_compared
        assert f"{2 * seen} " in decision.reason
        assert "was trained on" in decision.reason


def test_what_cannot_be_compared_is_not_promoted_and_says_so(
    known: Ledger, store: ModelStore, dataset: LabelledDataset, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    others = ("Clear", "Opaque", "Other")
    folder = make_version(tmp_path / "made", "three-1", tiny_recipe, others)
    make_current(known, store, folder, "three-1", others)
    promotion_reason = decide_promotion(1.0, TrainOptions(), known, store, dataset, (0, 10), folder)
    assert not promotion_reason.promote
    assert "classes of the current version three-1 are Clear, Opaque, Other" in promotion_reason.reason
    folder = make_version(tmp_path / "two", "two-1", tiny_recipe, dataset.classes)
    make_current(known, store, folder, "two-1", dataset.classes)
    weights = Path(store.url) / "two-1" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    promotion_reason = decide_promotion(1.0, TrainOptions(), known, store, dataset, (0, 10), folder)
    assert not promotion_reason.promote
    assert "cannot be measured" in promotion_reason.reason
    assert "SHA-256" in promotion_reason.reason


def test_a_version_that_has_no_scores_does_not_take_the_place_of_one_that_has(
    known: Ledger, store: ModelStore, dataset: LabelledDataset, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    folder = make_version(tmp_path / "made", "scored-1", tiny_recipe, dataset.classes)
    write_metadata(folder, read_metadata(folder).model_copy(update={"positive_class": "Opaque"}))
    make_current(known, store, folder, "scored-1", dataset.classes)
    candidate = make_version(tmp_path / "new", "new-1", tiny_recipe, dataset.classes)
    images, always = (0, 1, 10, 11), TrainOptions(promote="always")
    lost = "scored-1 has scores of Opaque, new-1 has none (train or import with --positive Opaque)"
    decision = decide_promotion(1.0, TrainOptions(), known, store, dataset, images, candidate)
    assert not decision.promote
    assert decision.reason.startswith(f"not promoted: {lost}")
    asked = decide_promotion(1.0, always, known, store, dataset, images, candidate)
    assert asked.promote
    assert asked.reason == f"promoted, as asked; {lost}"
    for positive, promoted in (("Clear", False), ("Opaque", True)):
        write_metadata(candidate, read_metadata(candidate).model_copy(update={"positive_class": positive}))
        decision = decide_promotion(1.0, TrainOptions(), known, store, dataset, images, candidate)
        assert decision.promote is promoted, decision.reason
