"""Heatmaps are what the formula says, image by image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from worker.errors import ModelError, XraycamError
from worker.explain.cam import GradCam
from worker.explain.explainer import Explainer
from worker.explain.forward import inference_steps, scale
from worker.images.preprocess import Pixels
from worker.model.metadata import ModelMetadata
from worker.model.network import load_model

LAYERS = ("block_7_project", "block_15_add", "out_relu")


@pytest.fixture(scope="module")
def explainer(model: tuple[ModelMetadata, Any]) -> Explainer:
    return Explainer(*model, LAYERS)


def plain_gradcam(network: Any, image: Pixels, layer: str, target: int) -> tuple[Any, Any, float]:
    """Scores, heatmap and maximum of one image: eager, nothing folded, sums as loops."""
    batch = tf.constant(np.stack([image.astype(np.float32) / 127.5 - 1] * 3, axis=-1)[np.newaxis])
    part = keras.Model(network.inputs[0], [network.get_layer(layer).output, network.outputs[0]])
    with tf.GradientTape() as tape:
        activations, scores = part(batch, training=False)
        score = scores[0, target]
    gradients = tape.gradient(score, activations).numpy()[0]
    activations = activations.numpy()[0]
    height, width, channels = activations.shape
    heatmap = np.zeros((height, width))
    for k in range(channels):
        weight = sum(gradients[i, j, k] for i in range(height) for j in range(width)) / (height * width)
        heatmap += weight * activations[:, :, k]
    heatmap = np.maximum(heatmap, 0)
    maximum = float(heatmap.max())
    return scores.numpy()[0], heatmap / (maximum or 1), maximum


# At the last layer the weighted channels nearly cancel, which leaves fewer digits to compare.
@pytest.mark.parametrize(
    ("layer", "tolerance"), [("block_7_project", 1e-5), ("block_15_add", 1e-5), ("out_relu", 5e-5)]
)
def test_heatmap_equals_the_formula_computed_plainly(
    explainer: Explainer, model: tuple[ModelMetadata, Any], batch: Pixels, layer: str, tolerance: float
) -> None:
    targets = [0, 1, 2, 0, 1, 2]
    explanation = explainer.explain(batch, targets)
    assert explanation.target_index.tolist() == targets
    for index, target in enumerate(targets):
        scores, heatmap, maximum = plain_gradcam(model[1], batch[index], layer, target)
        np.testing.assert_allclose(explanation.scores[index], scores, atol=1e-4)
        np.testing.assert_allclose(explanation.heatmaps[layer][index], heatmap, atol=tolerance)
        np.testing.assert_allclose(explanation.maxima[layer][index], maximum, rtol=1e-3)


def test_maps_of_the_test_model_are_worth_comparing(explainer: Explainer, batch: Pixels) -> None:
    explanation = explainer.explain(batch)
    for layer in LAYERS:
        assert (explanation.maxima[layer] > 0).sum() >= 4
        spread = explanation.heatmaps[layer].reshape(len(batch), -1).std(axis=1)
        assert (spread > 0.05).sum() >= 4
    assert len(set(explanation.target_index.tolist())) > 1


def test_heatmap_of_a_batch_equals_one_by_one(explainer: Explainer, batch: Pixels) -> None:
    together = explainer.explain(batch)
    for index in range(len(batch)):
        alone = explainer.explain(batch[index : index + 1])
        assert alone.target_index[0] == together.target_index[index]
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[index], atol=1e-5)
        for layer in LAYERS:
            np.testing.assert_allclose(alone.heatmaps[layer][0], together.heatmaps[layer][index], atol=1e-5)


def test_heatmap_does_not_depend_on_its_neighbours(explainer: Explainer, batch: Pixels) -> None:
    white = np.full_like(batch, 255)
    white[2] = batch[2]
    among_images, among_white = explainer.explain(batch), explainer.explain(white)
    for layer in LAYERS:
        np.testing.assert_allclose(among_images.heatmaps[layer][2], among_white.heatmaps[layer][2], atol=1e-6)


@pytest.mark.slow
def test_several_layers_at_once_equal_each_alone(
    explainer: Explainer, model: tuple[ModelMetadata, Any], batch: Pixels
) -> None:
    together = explainer.explain(batch)
    assert tuple(together.heatmaps) == LAYERS
    for layer in LAYERS:
        alone = Explainer(*model, [layer]).explain(batch)
        # Not to the last digit: a convolution that is asked for is not folded.
        np.testing.assert_allclose(alone.heatmaps[layer], together.heatmaps[layer], atol=5e-5)


def test_predicted_class_is_explained_where_no_target_is_given(explainer: Explainer, batch: Pixels) -> None:
    explanation = explainer.explain(batch, [-1, 0, -1, 1, -1, 2])
    best = explanation.scores.argmax(axis=1)
    assert explanation.target_index.tolist() == [best[0], 0, best[2], 1, best[4], 2]
    np.testing.assert_allclose(explanation.probabilities.sum(axis=1), 1, atol=1e-6)


def test_probabilities_are_calibrated_by_the_models_temperature(
    model: tuple[ModelMetadata, Any], batch: Pixels
) -> None:
    metadata, network = model
    found = Explainer(metadata.model_copy(update={"temperature": 2.5}), network).explain(batch)
    shares = np.exp(found.scores / 2.5)
    expected = shares / shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    assert (
        np.abs(found.probabilities - Explainer(metadata, network).explain(batch).probabilities).max() > 1e-3
    )


def test_compiled_once_whatever_the_size_of_the_batch(
    model: tuple[ModelMetadata, Any], batch: Pixels
) -> None:
    explainer = Explainer(*model)
    explainer.warm_up()
    for count in (1, 3, 6):
        explainer.explain(batch[:count])
    assert explainer._compiled.experimental_get_tracing_count() == 1


def test_saturated_image_is_not_blank(model_folder: Path, batch: Pixels) -> None:
    metadata, network = load_model(model_folder)
    before = Explainer(metadata, network).explain(batch)
    image = int(before.maxima["block_15_add"].argmax())
    score = network.get_layer("score")
    ordered = np.sort(before.scores[image])
    factor = 30 / (ordered[-1] - ordered[-2])
    score.kernel.assign(score.kernel * factor)
    score.bias.assign(score.bias * factor)
    after = Explainer(metadata, network).explain(batch)
    assert after.probabilities[image].max() >= 1 - 2**-23  # or the last number below 1
    np.testing.assert_allclose(
        after.heatmaps["block_15_add"][image], before.heatmaps["block_15_add"][image], atol=1e-5
    )


def test_map_that_is_zero_everywhere_stays_zero(model_folder: Path, batch: Pixels) -> None:
    metadata, network = load_model(model_folder)
    score = network.get_layer("score")
    score.kernel.assign(np.zeros(score.kernel.shape))
    explanation = Explainer(metadata, network).explain(batch)
    assert not explanation.maxima["block_15_add"].any()
    assert not explanation.heatmaps["block_15_add"].any()


@pytest.mark.slow
def test_explainer_of_new_weights_does_not_use_the_old(model_folder: Path, batch: Pixels) -> None:
    metadata, network = load_model(model_folder)
    old = Explainer(metadata, network)
    before = old.explain(batch)
    _, other = load_model(model_folder)
    bias = other.get_layer("score").bias
    bias.assign(bias + 1)
    np.testing.assert_allclose(Explainer(metadata, other).explain(batch).scores, before.scores + 1, atol=1e-4)
    np.testing.assert_array_equal(old.explain(batch).scores, before.scores)


def test_network_that_puts_out_no_numbers_is_refused(model_folder: Path, batch: Pixels) -> None:
    metadata, network = load_model(model_folder)
    network.get_layer("score").bias.assign([np.nan, 0, 0])
    with pytest.raises(ModelError, match="model small puts out values that are not numbers"):
        Explainer(metadata, network).explain(batch)


def test_folding_batch_norms_costs_no_precision(model: tuple[ModelMetadata, Any], batch: Pixels) -> None:
    metadata, network = model
    keras.config.set_dtype_policy("float64")
    try:
        exact = keras.models.clone_model(network, clone_function=in_float64)
    finally:
        keras.config.set_dtype_policy("float32")
    exact.set_weights(network.get_weights())
    images = scale(batch, metadata.preprocessing)
    truth = exact(tf.cast(images, tf.float64), training=False).numpy()
    assert truth.dtype == np.float64
    values = {id(network.inputs[0]): images}
    for step in inference_steps(network, keep=[]):
        folded = step.run(values)
    error = np.abs(folded.numpy() - truth).max()
    error_of_keras = np.abs(network(images, training=False).numpy() - truth).max()
    assert error < 4 * error_of_keras + 1e-6


def in_float64(layer: Any) -> Any:
    return type(layer).from_config({**layer.get_config(), "dtype": "float64"})


def test_folding_batch_norms_halves_the_steps_and_keeps_the_named_layers(
    model: tuple[ModelMetadata, Any],
) -> None:
    _, network = model
    names = [step.name for step in inference_steps(network, keep=["block_7_project"])]
    assert "block_7_project" in names
    assert "block_7_project_BN" in names
    assert "block_8_project" not in names
    assert "block_8_project_BN" in names


def test_unknown_layer_is_refused_with_near_names(model: tuple[ModelMetadata, Any]) -> None:
    with pytest.raises(ModelError, match=r"no layer 'block_15_ad'; near: block_15_add"):
        Explainer(*model, ["block_15_ad"])


def test_unknown_method_is_refused_with_the_known_names(model: tuple[ModelMetadata, Any]) -> None:
    with pytest.raises(XraycamError, match="no method 'gradcan'; known are gradcam"):
        Explainer(*model, method="gradcan")


def test_gradcam_by_hand() -> None:
    # Two channels of 2 x 2. Mean gradients: (1 + 2 + 3 + 6) / 4 = 3 and (0 - 1 - 1 - 2) / 4 = -1.
    activations = np.array([[[[1, 2], [0, 1]], [[2, 0], [1, 4]]]], np.float32)
    gradients = np.array([[[[1, 0], [2, -1]], [[3, -1], [6, -2]]]], np.float32)
    raw = GradCam().compute_cam(tf.constant(activations), tf.constant(gradients))
    assert raw.numpy().tolist() == [[[3 * 1 - 2, 3 * 0 - 1], [3 * 2 - 0, 3 * 1 - 4]]]


def test_gradcam_pools_each_image_alone() -> None:
    activations = np.ones((2, 2, 2, 1), np.float32)
    gradients = np.stack([np.full((2, 2, 1), 1), np.full((2, 2, 1), 5)]).astype(np.float32)
    raw = GradCam().compute_cam(tf.constant(activations), tf.constant(gradients)).numpy()
    assert raw[0].tolist() == [[1, 1], [1, 1]]
    assert raw[1].tolist() == [[5, 5], [5, 5]]
