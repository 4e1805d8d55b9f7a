"""Every architecture is explained by the same code: its maps are those of a plain gradient tape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from worker.explain.explainer import Explainer
from worker.explain.forward import inference_steps, scale
from worker.model.architectures import ARCHITECTURES
from worker.model.metadata import Head, Preprocessing
from worker.model.network import build_network, layer_named, load_model, save_model, spatial_layers

SIZE = 64

pytestmark = pytest.mark.slow


def _network(name: str) -> Any:
    """With batch norms and layer scales of a network that was trained: fresh ones hide faults."""
    keras.utils.set_random_seed(3)
    network = build_network(SIZE, 3, Head(units=16, dropout=0.1), architecture=name)
    rng = np.random.default_rng(5)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            count = layer.gamma.shape[0]
            layer.set_weights(
                [rng.uniform(0.5, 1.5, count), rng.normal(0, 0.3, count), rng.normal(0, 0.3, count),
                 rng.uniform(0.5, 2, count)]
            )  # fmt: skip
        elif type(layer).__name__ == "LayerScale":
            layer.set_weights([rng.uniform(0.2, 0.8, layer.get_weights()[0].shape)])
        elif getattr(layer, "use_bias", False):
            layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
    return network


def _plain_grad_cam(network: Any, layer: str, inputs: Any, index: int) -> Any:
    whole = keras.Model(network.input, [layer_named(network, layer).output, network.output])
    activations, scores = whole(inputs, training=False)
    rest = keras.Model(layer_named(network, layer).output, network.output)
    with tf.GradientTape() as tape:
        tape.watch(activations)
        total = tf.reduce_sum(rest(activations, training=False)[:, index])
    gradients = tape.gradient(total, activations)
    raw = tf.nn.relu(tf.einsum("bhwc,bc->bhw", activations, tf.reduce_mean(gradients, (1, 2)))).numpy()
    return raw / np.maximum(raw.max(axis=(1, 2), keepdims=True), 1e-30), scores.numpy()


# MobileNetV2's are compared in `test_explainer`; connections lead around some of its layers.
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "mobilenetv2"])
def test_maps_are_those_of_a_gradient_tape_after_saving_and_loading(name: str, tmp_path: Path) -> None:
    network = _network(name)
    layers = spatial_layers(network, name)
    suits = [layer.name for layer in layers if layer.is_cam_candidate] or [layers[-1].name]
    preprocessing = Preprocessing(size=SIZE, scale=ARCHITECTURES[name].scale)
    save_model(
        network,
        tmp_path / "v1",
        metadata={
            "version": "v1", "architecture": name, "classes": ("a", "b", "c"), "created": "now",
            "preprocessing": preprocessing, "head": Head(units=16, dropout=0.1), "layers": layers,
            "default_layer": suits[-1],
        },
    )  # fmt: skip
    metadata, loaded = load_model(tmp_path / "v1")
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8)
    chosen = list(dict.fromkeys([suits[0], suits[len(suits) // 2], suits[-1]]))
    found = Explainer(metadata, loaded, chosen, "gradcam").explain(pixels, [1, 1, 1])
    for layer in chosen:
        wanted, scores = _plain_grad_cam(loaded, layer, scale(pixels, preprocessing), 1)
        np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-5)
        panel = layer if len(chosen) > 1 else next(iter(found.heatmaps))
        np.testing.assert_allclose(found.heatmaps[panel], wanted, rtol=0, atol=1e-5)
    assert np.ptp(found.scores) > 1e-3


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_names_and_what_they_name_are_the_same_each_time(name: str) -> None:
    first, second = (build_network(SIZE, 2, Head(units=8), architecture=name) for _ in range(2))
    assert [one.name for one in first.operations] == [one.name for one in second.operations]
    architecture = ARCHITECTURES[name]
    layers = [layer.name for layer in spatial_layers(first, name)]
    assert architecture.freeze_until in layers
    assert architecture.last_layer == layers[-1]


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_convolutions_are_folded_where_a_batch_norm_follows(name: str) -> None:
    network = build_network(SIZE, 2, Head(units=8), architecture=name)
    norms = {layer.name for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)}
    steps = [step.name for step in inference_steps(network, keep=())]
    folded = len([op for op in network.operations if not isinstance(op, keras.layers.InputLayer)]) - len(
        steps
    )
    # DenseNet normalises before it convolves, but for the first layer; ConvNeXt has no batch norms.
    least = {"mobilenetv2": 50, "efficientnetv2-b0": 50, "resnet50": 50, "densenet121": 50}.get(name, 0)
    assert least <= folded <= len(norms)
