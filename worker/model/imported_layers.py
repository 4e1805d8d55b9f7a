"""Which layers of an imported network class activation maps may be of, by its structure alone."""

from __future__ import annotations

from typing import Any

from worker.errors import ModelError
from worker.keras_import.graph import Graph
from worker.model.metadata import Layer

_SMALLEST = 4
_JOINS = ("Add", "Concatenate")
_ENDS = (
    "Conv2D", "DepthwiseConv2D", "SeparableConv2D", "BatchNormalization", "LayerNormalization", "Activation",
    "ReLU", "LeakyReLU", "PReLU", "ELU", "LayerScale",
)  # fmt: skip


def spatial_layers_of(graph: Graph, network: Any) -> tuple[Layer, ...]:
    """The layers that put out a map, from input to output. Candidates join branches, or are the last before
    the map changes its size or ends, and have at least 4 x 4 places."""
    outputs = {layer.name: tuple(layer.output.shape) for layer in network.layers}
    followers: dict[str, list[str]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            followers.setdefault(name, []).append(node.name)
    found = []
    for node in graph.nodes:
        shape = outputs[node.name]
        if len(shape) != 4:
            continue
        _, height, width, channels = shape
        after = [outputs[name] for name in followers.get(node.name, [])]
        is_last = bool(after) and all(len(one) != 4 or one[1:3] != shape[1:3] for one in after)
        ends = node.kind in _JOINS or (node.kind in _ENDS and is_last)
        found.append(
            Layer(
                name=node.name, height=height, width=width, channels=channels,
                is_cam_candidate=ends and min(height, width) >= _SMALLEST,
            )
        )  # fmt: skip
    return tuple(found)


def default_layer_of(layers: tuple[Layer, ...]) -> str:
    """The last candidate, or the last layer with a map. Raises ModelError where there is none."""
    for suits in (
        [layer for layer in layers if layer.is_cam_candidate],
        [layer for layer in layers if min(layer.height, layer.width) >= _SMALLEST],
        [layer for layer in layers if min(layer.height, layer.width) > 1],
    ):
        if suits:
            return suits[-1].name
    raise ModelError("the model has no layer with a map of places; class activation maps need a convolution")
