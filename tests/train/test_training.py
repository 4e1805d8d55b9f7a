"""Training is staged, repeatable, stoppable, and resumes where it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from worker.model.network import build_network
from worker.train.dataset import LabelledDataset, load_labelled_folder
from worker.train.finding_loss import prior_shift
from worker.train.metrics import softmax
from worker.train.recipe import REFERENCE, KerasAugmentation, Recipe, RecipeError, Stage
from worker.train.split_network import split_at_layer
from worker.train.splits import Split, train_val_split
from worker.train.training import (
    Epoch,
    Trainer,
    TrainingResult,
    TrainingStopped,
    fit,
    localisation_loss,
)
from worker.train.training_callbacks import CheckpointError, EvaluateEpoch, EvaluationData

MakeFolder = Callable[..., Path]


@pytest.fixture
def data(make_folder: MakeFolder) -> tuple[LabelledDataset, Split]:
    dataset = load_labelled_folder(make_folder(Clear=14, Opaque=14), min_per_class=4)
    return dataset, train_val_split(dataset, share=0.25, seed=0)


def weights_of(trained: TrainingResult) -> list[np.ndarray]:
    return [np.asarray(v) for v in trained.network.variables if "seed_generator" not in v.path]


def test_a_training_learns_an_obvious_difference(
    data: tuple[LabelledDataset, Split], tiny_recipe: Recipe
) -> None:
    # From random weights there is nothing to keep: all layers learn, batch norms too.
    everything = {
        "freeze_until": None,
        "batch_norm": "released",
        "ema_decay": 0.0,
        "label_smoothing": 0.0,
        "head": tiny_recipe.head.model_copy(update={"l2": 0.0}),
        "stages": (Stage(epochs=9, learning_rate=3e-3),),
    }
    trained = fit(*data, tiny_recipe.model_copy(update=everything), init_weights="none")
    assert trained.history[0].val_loss > 0.5
    assert trained.history[-1].val_loss < 0.4
    assert trained.history[-1].val_auc == 1.0
    assert trained.scores.shape == (len(data[1].validation), 2)


def test_progress_tells_of_every_epoch_and_stage(
    data: tuple[LabelledDataset, Split], tiny_recipe: Recipe
) -> None:
    told: list[Epoch] = []
    trained = fit(*data, tiny_recipe, init_weights="none", progress=told.append)
    assert tuple(told) == trained.history
    assert [(e.stage, e.epoch, e.epochs) for e in told] == [
        ("head", 1, 3),
        ("network", 2, 3),
        ("network", 3, 3),
    ]


def test_same_seed_and_data_give_the_same_weights(
    data: tuple[LabelledDataset, Split], tiny_recipe: Recipe
) -> None:
    first = fit(*data, tiny_recipe, init_weights="none")
    kept = weights_of(first)
    second = fit(*data, tiny_recipe, init_weights="none")
    for a, b in zip(kept, weights_of(second), strict=True):
        np.testing.assert_array_equal(a, b)


def stopped_and_resumed(
    data: tuple[LabelledDataset, Split], recipe: Recipe, checkpoint: Path, stop_after: int
) -> TrainingResult:
    done: list[Epoch] = []
    with suppress(TrainingStopped):  # stopped after its last epoch, it only has to be finished
        fit(
            *data,
            recipe,
            init_weights="none",
            checkpoint=checkpoint,
            progress=done.append,
            should_stop=lambda: len(done) == stop_after,
        )
    assert len(done) == stop_after
    return fit(*data, recipe, init_weights="none", checkpoint=checkpoint)


def test_a_resumed_training_equals_one_that_was_not_stopped(
    data: tuple[LabelledDataset, Split], tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe.model_copy(update={"monitor": "val_loss"})
    whole = fit(*data, recipe, init_weights="none")
    expected = weights_of(whole)
    for stop_after in (1, 2, 3):  # between two stages, within one, after the last
        resumed = stopped_and_resumed(data, recipe, tmp_path / f"{stop_after}.safetensors", stop_after)
        assert [e.val_loss for e in resumed.history] == [e.val_loss for e in whole.history]
        assert resumed.best_epoch == whole.best_epoch
        for a, b in zip(expected, weights_of(resumed), strict=True):
            np.testing.assert_array_equal(a, b)


def test_two_splits_of_one_trainer_do_not_touch_each_other(
    data: tuple[LabelledDataset, Split], tiny_recipe: Recipe
) -> None:
    trainer = Trainer(data[0], tiny_recipe, init_weights="none")
    other = train_val_split(data[0], share=0.25, seed=9)
    expected = weights_of(trainer.fit(data[1]))
    trainer.fit(other)
    for a, b in zip(expected, weights_of(trainer.fit(data[1])), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_checkpoint_of_another_training_is_refused(
    data: tuple[LabelledDataset, Split], tiny_recipe: Recipe, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "training.safetensors"
    fit(*data, tiny_recipe, init_weights="none", checkpoint=checkpoint)
    other = tiny_recipe.model_copy(update={"label_smoothing": 0.2})
    with pytest.raises(CheckpointError, match="other data, recipe or first weights"):
        fit(*data, other, init_weights="none", checkpoint=checkpoint)
    checkpoint.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="delete it"):
        fit(*data, tiny_recipe, init_weights="none", checkpoint=checkpoint)


def test_a_file_renamed_since_does_not_change_sides_in_a_training_that_is_resumed(
    make_folder: MakeFolder, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """Images go by number, in the order of their names: those learned from would judge."""
    folder, checkpoint = make_folder(Clear=14, Opaque=14), tmp_path / "training.safetensors"
    before = load_labelled_folder(folder, min_per_class=4)
    split = train_val_split(before, share=0.25, seed=0)
    fit(before, split, tiny_recipe, init_weights="none", checkpoint=checkpoint)
    (folder / "Clear" / "000.png").rename(folder / "Clear" / "900.png")
    after = load_labelled_folder(folder, min_per_class=4)
    assert after.digest == before.digest
    again = train_val_split(after, share=0.25, seed=0)
    assert {after.sha256[n] for n in again.validation} & {before.sha256[n] for n in split.training}
    with pytest.raises(CheckpointError, match="other data, recipe or first weights"):
        fit(after, again, tiny_recipe, init_weights="none", checkpoint=checkpoint)


def test_frozen_layers_keep_their_weights(data: tuple[LabelledDataset, Split], tiny_recipe: Recipe) -> None:
    start: dict[str, np.ndarray] = {}
    trained = fit(*data, tiny_recipe, init_weights="none")
    end = {v.path: np.asarray(v) for v in trained.network.variables}
    head_only = tiny_recipe.model_copy(update={"stages": tiny_recipe.stages[:1]})
    again = fit(*data, head_only, init_weights="none")
    start = {v.path: np.asarray(v) for v in again.network.variables}
    frozen = ("Conv1/kernel", "block_5_project/kernel", "block_16_project_BN/moving_mean")
    for path in frozen:
        np.testing.assert_array_equal(start[path], end[path])
    assert (start["block_16_project/kernel"] != end["block_16_project/kernel"]).any()


def test_features_that_do_not_fit_into_memory_give_the_same_result(
    data: tuple[LabelledDataset, Split], tiny_recipe: Recipe
) -> None:
    kept = fit(*data, tiny_recipe, init_weights="none")
    scores = kept.scores
    anew = fit(*data, tiny_recipe, init_weights="none", memory=0)
    np.testing.assert_allclose(softmax(anew.scores), softmax(scores), atol=1e-5)


def test_the_best_epoch_is_kept_and_patience_ends_the_training_resumed_or_not(
    data: tuple[LabelledDataset, Split], tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = tiny_recipe.model_copy(
        update={"monitor": "val_accuracy", "patience": 2, "stages": (Stage(epochs=9, learning_rate=1e-9),)}
    )
    trained = stopped_and_resumed(data, recipe, tmp_path / "training.safetensors", 2)
    best = max(e.val_accuracy for e in trained.history)
    assert trained.history[trained.best_epoch - 1].val_accuracy == best
    assert len(trained.history) == trained.best_epoch + 2 < 9
    labels = np.array(data[0].labels)[list(data[1].validation)]
    assert (trained.scores.argmax(1) == labels).mean() == best


def test_the_reference_recipes_random_layers_train_and_resume(
    data: tuple[LabelledDataset, Split], tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = REFERENCE.model_copy(
        update={
            "preprocessing": tiny_recipe.preprocessing,
            "freeze_until": tiny_recipe.freeze_until,
            "alpha": 0.35,
            "batch": 8,
            "stages": (Stage(epochs=2, learning_rate=1e-4, schedule="exponential", decay=0.99),),
        }
    )
    assert isinstance(recipe.augmentation, KerasAugmentation)
    whole = weights_of(fit(*data, recipe, init_weights="none"))
    done: list[Epoch] = []
    checkpoint = tmp_path / "reference.safetensors"
    with pytest.raises(TrainingStopped):
        fit(
            *data,
            recipe,
            init_weights="none",
            checkpoint=checkpoint,
            progress=done.append,
            should_stop=lambda: len(done) == 1,
        )
    for a, b in zip(
        whole, weights_of(fit(*data, recipe, init_weights="none", checkpoint=checkpoint)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_a_split_through_a_block_is_refused(data: tuple[LabelledDataset, Split], tiny_recipe: Recipe) -> None:
    for name in ("block_5_expand", "nowhere"):
        with pytest.raises(RecipeError, match=f"'{name}'.*end of a block"):
            fit(*data, tiny_recipe.model_copy(update={"freeze_until": name}), init_weights="none")


def test_the_localisation_loss_is_the_cross_entropy_of_each_known_cell_by_hand() -> None:
    areas, logits = np.zeros((2, 4, 4, 1), np.float32), np.zeros((2, 2, 2, 1), np.float32)
    areas[0, :2, 0] = 1  # half of the first cell: counts as all of it
    areas[1] = -1  # nobody looked
    logits[0, :, :, 0] = [[2, -1], [0, -3]]
    losses = [np.log1p(np.exp(-2)), np.log1p(np.exp(-1)), np.log(2), np.log1p(np.exp(-3))]
    found = localisation_loss(areas, logits).numpy()
    np.testing.assert_allclose(found, [5 * np.mean(losses), 0], rtol=1e-5)


def test_probabilities_of_a_rare_class_are_those_of_the_images_as_they_come(
    make_folder: MakeFolder, tiny_recipe: Recipe
) -> None:
    """Nothing tells the two apart: the share of each is all there is to know."""
    dataset = load_labelled_folder(make_folder(Clear=40, Cloudy=8), min_per_class=4)
    split = train_val_split(dataset, share=0.25, seed=0)
    assert tiny_recipe.class_weights
    trained = fit(dataset, split, tiny_recipe, init_weights="none")
    assert np.mean(softmax(trained.scores)[:, 1]) == pytest.approx(1 / 6, abs=0.08)


def test_what_weights_add_to_scores_by_hand() -> None:
    # Of 8 images 6 are of the first class: weights 8 / (2 * 6) and 8 / (2 * 2).
    shift = prior_shift(np.array([0, 0, 0, 1, 0, 0, 1, 0]), 2)
    np.testing.assert_allclose(shift, np.log([2 / 3, 2]), rtol=1e-6)
    # A finding that 1 of 5 known images has: 5 / 2 against 5 / 8. One that half have: none.
    truth = np.array([[1, 1], [0, 0], [0, 1], [0, 0], [0, np.nan], [np.nan, np.nan]], np.float32)
    np.testing.assert_allclose(prior_shift(truth, 2), [np.log(4), 0], atol=1e-6)


def test_the_next_epoch_starts_from_the_trained_weights_not_from_their_average(tiny_recipe: Recipe) -> None:
    network = build_network(64, 2, tiny_recipe.head, tiny_recipe.alpha)
    split_network = split_at_layer(network, tiny_recipe)
    split_network.set_trainable(head_only=True, batch_norm=False)
    model, optimizer = split_network.trainable, keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.75)
    model.compile(optimizer)
    optimizer.build(model.trainable_variables)
    features = np.random.default_rng(0).normal(size=(6, 2, 2, 56)).astype(np.float32)
    data = EvaluationData(features, np.array([0, 1] * 3), features)
    evaluate = EvaluateEpoch(split_network, tiny_recipe, data, [])
    evaluate.set_model(model)
    score = network.get_layer("score").bias
    values = []
    for _ in range(3):
        optimizer.apply([tf.ones_like(v) for v in model.trainable_variables], model.trainable_variables)
        values.append(score.numpy())
    logs: dict[str, float] = {}
    evaluate.on_epoch_end(0, logs)
    # The average is the first value at first, then 3/4 of itself and 1/4 of the value.
    average = 0.75 * (0.75 * values[0] + 0.25 * values[1]) + 0.25 * values[2]
    np.testing.assert_allclose(score.numpy(), average, rtol=1e-6)
    pooled = split_network.pooled.predict(features, verbose=0)
    norm = network.get_layer("head_pool_BN")
    np.testing.assert_allclose(norm.moving_mean.numpy(), pooled.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.moving_variance.numpy(), pooled.var(0), rtol=1e-4)
    assert set(logs) == {"val_loss", "val_auc", "val_accuracy", "seconds"}
    evaluate.on_epoch_begin(1)
    np.testing.assert_array_equal(score.numpy(), values[2])


def test_batch_norms_that_learn_get_the_statistics_of_all_batches(tiny_recipe: Recipe) -> None:
    network = build_network(64, 2, tiny_recipe.head, alpha=0.35)
    split = split_at_layer(network, tiny_recipe.model_copy(update={"freeze_until": None}))
    pixels = np.random.default_rng(0).integers(0, 256, (6, 64, 64), np.uint8)
    split.set_trainable(head_only=True, batch_norm=True)
    split.recalibrate_batch_norm(pixels, batch=3)
    norm = network.get_layer("bn_Conv1")
    assert np.all(norm.moving_mean.numpy() == 0), "one that does not learn is left alone"
    split.set_trainable(head_only=False, batch_norm=True)
    split.recalibrate_batch_norm(pixels, batch=3)
    scaled = np.repeat(pixels[..., None] / np.float32(127.5) - 1, 3, axis=-1)
    before = keras.Model(network.input, norm.input)(scaled).numpy()
    np.testing.assert_allclose(norm.moving_mean, before.mean((0, 1, 2)), atol=1e-5)
    of_batches = [before[:3].var((0, 1, 2)), before[3:].var((0, 1, 2))]
    np.testing.assert_allclose(norm.moving_variance, np.mean(of_batches, 0), rtol=1e-4)
    assert norm.momentum == 0.999
