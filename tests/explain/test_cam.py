"""Every method against numbers worked out by hand and against a plain reference."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from worker.explain.cam import METHODS, MethodInput
from worker.explain.explainer import Explainer, ScoreCamForward
from worker.explain.names import METHODS as OFFERED
from worker.images.preprocess import Pixels
from worker.model.metadata import ModelMetadata

LAYER = "block_12_add"
OTHERS = tuple(name for name in METHODS if name != "scorecam")

# Two channels of 2 x 2, the last axis being the channels.
A = np.array([[[[1, 2], [0, 1]], [[2, 0], [1, 1]]]], np.float32)
G = np.array([[[[1, 0], [2, -1]], [[0, -1], [1, 2]]]], np.float32)

BY_HAND = {
    # Mean gradients (1 + 2 + 0 + 1) / 4 = 1 and (0 - 1 - 1 + 2) / 4 = 0.
    "gradcam": [[1, 0], [2, 1]],
    # Sums of A: 4 and 4. Channel 0: 1 / (2 + 4) + 2 / (2 + 8) + 0 + 1 / (2 + 4) = 8 / 15.
    # Channel 1: only the 2 is positive: 2 / (2 + 8) = 1 / 5.
    "gradcam++": [[8 / 15 + 2 / 5, 1 / 5], [16 / 15, 8 / 15 + 1 / 5]],
    "hirescam": [[1 * 1 + 0 * 2, 2 * 0 - 1 * 1], [0 * 2 - 1 * 0, 1 * 1 + 2 * 1]],
    "layercam": [[1 * 1 + 0 * 2, 2 * 0 + 0 * 1], [0 * 2 + 0 * 0, 1 * 1 + 2 * 1]],
    # Channel 0: (1 + 0 + 0 + 1) / 4 = 1 / 2; channel 1: (0 - 1 + 0 + 2) / 4 = 1 / 4.
    "xgradcam": [[1 / 2 + 2 / 4, 1 / 4], [1, 1 / 2 + 1 / 4]],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_gradient_method_by_hand(name: str) -> None:
    raw = METHODS[name]().compute_cam(tf.constant(A), tf.constant(G)).numpy()
    np.testing.assert_allclose(raw, [BY_HAND[name]], atol=1e-6)


@pytest.mark.parametrize("transposed", [False, True])
def test_eigencam_by_hand(transposed: bool) -> None:
    # Places are the multiples 2, 1, 0, 1 of one vector: the map is these times its length, whatever the sign.
    vector = np.array([3, -4], np.float32) if not transposed else np.array([3, -4, 0, 0, 0], np.float32)
    activations = (np.array([[2, 1], [0, 1]], np.float32)[..., np.newaxis] * vector)[np.newaxis]
    raw = METHODS["eigencam"]().compute_cam(tf.constant(activations), None).numpy()
    np.testing.assert_allclose(raw, [[[10, 5], [0, 5]]], atol=1e-4)


def test_scorecam_by_hand() -> None:
    # Scores that differ by log 3: softmax weights 3/4 and 1/4.
    scores = tf.constant([[np.log(3.0) + 7, 7]], tf.float32)
    raw = METHODS["scorecam"]().compute_cam(tf.constant(A), scores).numpy()
    np.testing.assert_allclose(raw, [[[3 / 4 + 2 / 4, 1 / 4], [6 / 4, 1]]], atol=1e-5)


def test_gradients_of_zero_and_activations_of_zero_give_a_blank_map_not_nan() -> None:
    for name, method in METHODS.items():
        evidence = tf.zeros((1, 2)) if method.needs is MethodInput.MASKED_SCORES else tf.zeros((1, 2, 2, 2))
        blank = method().compute_cam(tf.zeros((1, 2, 2, 2)), evidence).numpy()
        assert blank.tolist() == [[[0, 0], [0, 0]]], name


def plain_map(network: Any, image: Pixels, name: str, target: int, layer: str = LAYER) -> Any:
    """One image's map: eager, nothing folded, NumPy's own functions and loops over channels."""
    batch = tf.constant(np.stack([image.astype(np.float32) / 127.5 - 1] * 3, axis=-1)[np.newaxis])
    part = keras.Model(network.inputs[0], [network.get_layer(layer).output, network.outputs[0]])
    with tf.GradientTape() as tape:
        values, scores = part(batch, training=False)
        score = scores[0, target]
    g, a = tape.gradient(score, values).numpy()[0].astype(np.float64), values.numpy()[0].astype(np.float64)
    height, width, channels = a.shape
    if name == "eigencam":
        _, _, right = np.linalg.svd(a.reshape(-1, channels), full_matrices=False)
        raw = (a.reshape(-1, channels) @ right[0]).reshape(height, width)
        raw *= 1 if raw.sum() >= 0 else -1
    else:
        raw = np.zeros((height, width))
        logits = []
        for k in range(channels):
            a_k, g_k = a[..., k], g[..., k]
            if name == "gradcam":
                raw += g_k.mean() * a_k
            elif name == "gradcam++":
                below = 2 * g_k**2 + a_k.sum() * g_k**3
                alpha = np.divide(g_k**2, below, out=np.zeros_like(below), where=below != 0)
                raw += (alpha * np.maximum(g_k, 0)).sum() * a_k
            elif name == "hirescam":
                raw += g_k * a_k
            elif name == "layercam":
                raw += np.maximum(g_k, 0) * a_k
            elif name == "xgradcam":
                raw += (g_k * a_k).sum() / a_k.sum() * a_k
            else:
                large = tf.image.resize(a_k[..., np.newaxis].astype(np.float32), batch.shape[1:3]).numpy()
                mask = (large - large.min()) / (large.max() - large.min())
                logits.append(float(network(batch * mask, training=False)[0, target]))
        if logits:
            powers = np.exp(np.array(logits) - max(logits))
            raw = a @ (powers / powers.sum())
    raw = np.maximum(raw, 0)
    return raw / (raw.max() or 1)


@pytest.fixture(scope="module")
def all_methods(model: tuple[ModelMetadata, Any]) -> Explainer:
    return Explainer(*model, [LAYER], OTHERS)


@pytest.mark.parametrize("name", OTHERS)
def test_map_equals_the_formula_computed_plainly(
    all_methods: Explainer, model: tuple[ModelMetadata, Any], batch: Pixels, name: str
) -> None:
    targets = [0, 1, 2, 0, 1, 2]
    found = all_methods.explain(batch, targets).heatmaps[f"{LAYER} {name}"]
    assert found.max() == 1
    for index, target in enumerate(targets):
        plain = plain_map(model[1], batch[index], name, target)
        # Grad-CAM++ divides by sums that can come near zero, which magnifies rounding.
        np.testing.assert_allclose(found[index], plain, atol=1e-3 if name == "gradcam++" else 5e-5)


@pytest.mark.slow
def test_scorecam_equals_the_formula_computed_plainly(
    model: tuple[ModelMetadata, Any], batch: Pixels
) -> None:
    found = Explainer(*model, [LAYER], "scorecam").explain(batch[:2], [1, 2]).heatmaps[LAYER]
    for index, target in enumerate([1, 2]):
        plain = plain_map(model[1], batch[index], "scorecam", target)
        np.testing.assert_allclose(found[index], plain, atol=1e-5)


@pytest.mark.slow
def test_scorecam_does_not_depend_on_the_memory_it_may_use(
    model: tuple[ModelMetadata, Any], batch: Pixels
) -> None:
    metadata, network = model
    activations = np.random.default_rng(0).normal(size=(6, 6, 11)).astype(np.float32)
    wide = ScoreCamForward(network, metadata.preprocessing)
    narrow = ScoreCamForward(network, metadata.preprocessing, memory=1)
    assert wide.chunk > narrow.chunk == 1
    np.testing.assert_allclose(
        wide(batch[0], activations), narrow(batch[0], activations), atol=1e-4, rtol=1e-5
    )


@pytest.mark.slow
def test_methods_at_once_equal_each_alone(
    all_methods: Explainer, model: tuple[ModelMetadata, Any], batch: Pixels
) -> None:
    together = all_methods.explain(batch)
    for name in OTHERS:
        alone = Explainer(*model, [LAYER], name).explain(batch)
        np.testing.assert_allclose(
            alone.heatmaps[LAYER], together.heatmaps[f"{LAYER} {name}"], atol=1e-5, err_msg=name
        )


def test_maps_of_all_methods_do_not_depend_on_their_batch(all_methods: Explainer, batch: Pixels) -> None:
    together = all_methods.explain(batch)
    white = np.full_like(batch, 255)
    white[2] = batch[2]
    among_white = all_methods.explain(white)
    for index in range(len(batch)):
        alone = all_methods.explain(batch[index : index + 1])
        for panel in all_methods.panels:
            np.testing.assert_allclose(
                alone.heatmaps[panel.name][0], together.heatmaps[panel.name][index], atol=1e-5
            )
    for panel in all_methods.panels:
        np.testing.assert_allclose(
            among_white.heatmaps[panel.name][2], together.heatmaps[panel.name][2], atol=1e-6
        )


def test_scorecam_of_a_batch_equals_one_by_one(model: tuple[ModelMetadata, Any], batch: Pixels) -> None:
    explainer = Explainer(*model, [LAYER], "scorecam")
    together = explainer.explain(batch[:3]).heatmaps[LAYER]
    for index in range(3):
        alone = explainer.explain(batch[index : index + 1]).heatmaps[LAYER][0]
        np.testing.assert_allclose(alone, together[index], atol=1e-5)


def test_three_methods_agree_at_the_input_of_the_pooling_layer(
    model: tuple[ModelMetadata, Any], batch: Pixels
) -> None:
    found = Explainer(*model, ["out_relu"], ["gradcam", "hirescam", "xgradcam"]).explain(batch).heatmaps
    for name in ("hirescam", "xgradcam"):
        np.testing.assert_allclose(found[f"out_relu {name}"], found["out_relu gradcam"], atol=1e-5)


def test_every_class_equals_each_as_the_target(model: tuple[ModelMetadata, Any], batch: Pixels) -> None:
    metadata = model[0]
    methods = ["gradcam", "eigencam"]
    every = Explainer(*model, [LAYER, "out_relu"], methods, every_class=True)
    # In EigenCAM no class has a part: one map for all three.
    assert len(every.panels) == 2 * (3 + 1)
    found = every.explain(batch)
    assert found.target_index.tolist() == found.scores.argmax(axis=1).tolist()
    single = Explainer(*model, [LAYER, "out_relu"], methods)
    for index, name in enumerate(metadata.classes):
        of_class = single.explain(batch, np.full(len(batch), index))
        for panel, maps in of_class.heatmaps.items():
            of_all = panel if "eigencam" in panel else f"{panel} {name}"
            np.testing.assert_allclose(found.heatmaps[of_all], maps, atol=1e-5)


@pytest.mark.slow
def test_scorecam_of_every_class_explains_each(model: tuple[ModelMetadata, Any], batch: Pixels) -> None:
    every = Explainer(*model, [LAYER], "scorecam", every_class=True).explain(batch[:1])
    one = Explainer(*model, [LAYER], "scorecam").explain(batch[:1], [2])
    np.testing.assert_allclose(every.heatmaps[f"{LAYER} Other"], one.heatmaps[LAYER], atol=1e-6)


def test_defaults_are_those_of_the_version(model: tuple[ModelMetadata, Any]) -> None:
    metadata, network = model
    chosen = metadata.model_copy(update={"default_layer": LAYER, "default_method": "layercam"})
    for layers, methods in (((), ()), (("auto",), ("auto",))):
        (panel,) = Explainer(chosen, network, layers, methods).panels
        assert (panel.layer, panel.method.name) == (LAYER, "layercam")
    (panel,) = Explainer(metadata, network).panels
    assert panel.method.name == "gradcam", "a description of an older release names no method"


def test_command_line_offers_the_methods_there_are() -> None:
    assert set(OFFERED) == set(METHODS)
