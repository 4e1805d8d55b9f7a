"""The weight-randomisation test: a map of a model that has forgotten everything must be another one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from worker.explain.explainer import Explainer
from worker.explain.forward import scale
from worker.images.preprocess import Pixels
from worker.map_evaluation.reports import Sanity, Stage
from worker.map_evaluation.similarity import similarity, unrelated
from worker.model.metadata import ModelMetadata
from worker.model.network import SCORE_LAYER, fresh_network

# Blocks and what follows the last one, by the names of the architectures.
_BLOCK = re.compile(
    r"block_\d+|expanded_conv|block\d[a-z]|conv\d_block\d+|pool\d|convnext_tiny_(stage_\d_block_\d|downsampling_block_\d)"
)
_LAST = ("Conv_1", "top_", "bn", "layer_normalization")
_BATCH = 16
_MEASURED_ON = 32


def check_sanity(
    metadata: ModelMetadata,
    network: Any,
    pixels: Pixels,
    *,
    layer: str | None = None,
    method: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], object] = lambda _done, _of: None,
) -> Sanity:
    """Randomise a copy of `network` from the head down, stage by stage, and compare the maps of `pixels`,
    uint8 (N, size, size), N at least 2, of the classes that the trained network predicts.

    Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv 1810.03292, section 3, cascading. Kernels
    are drawn anew with their own mean and spread; batch norms keep the values they have, in another order,
    and where they are random the statistics of `pixels` (32 at most), so that the signal does not die out
    and a blank map does not pass for a changed one. `progress` is told how many stages are done, of how many.
    """
    is_imported = metadata.architecture == "keras"
    copy = keras.models.clone_model(network) if is_imported else fresh_network(metadata)
    copy.set_weights(network.get_weights())
    given = (metadata, copy, () if layer is None else (layer,), () if method is None else method)
    explainer = Explainer(*given)
    (panel,) = explainer.panels
    classes, trained = _maps(explainer, pixels, None)
    images = scale(pixels[:_MEASURED_ON], metadata.preprocessing)
    random = np.random.default_rng(seed)
    stages, found = _stages(copy, imported=is_imported), []
    randomised: list[Any] = []
    for number, (part, layers) in enumerate(stages, 1):
        _randomise(layers, random)
        randomised += layers
        _measure_norms(copy, randomised, images)
        _, maps = _maps(explainer, pixels, classes)
        blank = sum(not one.any() for one in maps)
        found.append(Stage(part=part, similarity=similarity(trained, maps), blank=blank))
        progress(number, len(stages))
    return Sanity(
        model=metadata.version,
        layer=panel.layer,
        method=panel.method.name,
        images=len(pixels),
        stages=tuple(found),
        unrelated=unrelated(trained),
    )


def _maps(explainer: Explainer, pixels: Pixels, classes: Any) -> tuple[Any, Any]:
    parts = [slice(start, start + _BATCH) for start in range(0, len(pixels), _BATCH)]
    found = [explainer.explain(pixels[p], None if classes is None else classes[p]) for p in parts]
    (panel,) = explainer.panels
    return (
        np.concatenate([one.target_index for one in found]),
        np.concatenate([one.heatmaps[panel.name] for one in found]),
    )


def _stages(network: Any, *, imported: bool) -> list[tuple[str, list[Any]]]:
    """The layers with weights, in stages from the scores to the first convolution."""
    stages: dict[str, list[Any]] = {}
    if imported:
        return _stages_by_order([layer for layer in reversed(network.layers) if layer.weights])
    for layer in reversed(network.layers):
        if layer.weights:
            stages.setdefault(_stage_of(layer.name), []).append(layer)
    return list(stages.items())


def _stages_by_order(layers: list[Any]) -> list[tuple[str, list[Any]]]:
    """Where names say nothing: the scores, then eight equal parts, each by the name of its first layer."""
    head = next((n for n, layer in enumerate(layers) if isinstance(layer, keras.layers.Dense)), 0)
    parts, rest = [("scores", layers[: head + 1])], layers[head + 1 :]
    for chunk in np.array_split(np.arange(len(rest)), 8):
        if len(chunk):
            parts.append((f"to {rest[chunk[-1]].name}", [rest[index] for index in chunk]))
    return parts


def _stage_of(name: str) -> str:
    if name == SCORE_LAYER:
        return "scores"
    if name.startswith("head_"):
        return "head"
    block = _BLOCK.match(name)
    if block:
        return block.group(0).replace("expanded_conv", "block_0")
    return "last layers" if name.startswith(_LAST) else "first layers"


def _randomise(layers: Sequence[Any], random: np.random.Generator) -> None:
    for layer in layers:
        for variable in layer.trainable_weights or layer.weights:
            values = np.asarray(variable.value)
            if isinstance(layer, keras.layers.BatchNormalization) or values.ndim == 1:
                variable.assign(random.permutation(values))
            else:
                variable.assign(random.normal(values.mean(), values.std(), values.shape).astype(np.float32))


def _measure_norms(network: Any, layers: Sequence[Any], images: Any) -> None:
    """Give the batch norms among `layers` the statistics of `images`; nothing else changes."""
    measured = {id(layer) for layer in layers}
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # One that does not learn uses the statistics it has, also in training.
            layer.trainable = id(layer) in measured
            layer.momentum = 0.0
        elif isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    network(images, training=True)
