"""A checked graph as a Keras network, and `network.json`, which holds one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import keras

from worker.errors import ModelError
from worker.file_names import printable
from worker.keras_import import layers as ours
from worker.keras_import.archive import LARGEST_CONFIGURATION, read_json
from worker.keras_import.config import LAYERS, check_class, checked_settings
from worker.keras_import.graph import INPUT, MOST_LAYERS, Graph, Node, checked_name, flat

# As many float32 as weights of one gigabyte, and tensors of one image.
MOST_WEIGHTS = 250_000_000
LARGEST_TENSOR = 100_000_000
_OURS = {
    "LayerScale": ours.LayerScale,
    "FirstChannel": ours.FirstChannel,
    "TwoScores": ours.TwoScores,
    "Normalization": ours.Normalization,
}
_MERGING = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Concatenate")


def rebuild(graph: Graph, size: int) -> Any:
    """A `keras.Model` of `graph` with fresh weights: float32 (B, size, size, 3), three equal channels for a
    network that takes gray images, to the scores (B, K).

    Nothing is allocated before its size is known. Raises ModelError, which names the layer, for
    what cannot be.
    """
    source = keras.Input((size, size, 3), name=_input_name(graph))
    tensors = {INPUT: source}
    if graph.shape[2] == 1:
        tensors[INPUT] = ours.FirstChannel(name=f"{_input_name(graph)}_gray")(source)
    weights = 0
    for node in graph.nodes:
        inputs = [tensors[name] for name in node.inputs]
        shapes = [tuple(tensor.shape) for tensor in inputs]
        try:
            weights += _weights(node, shapes[0])
            if weights > MOST_WEIGHTS:
                raise ModelError(
                    f"layer {node.own}: the model has more than {MOST_WEIGHTS:,} weights, the limit"
                )
            _check_axes(node, shapes[0])
            layer = _layer(node)
            given = inputs if node.kind in _MERGING else inputs[0]
            _check_tensor(layer.compute_output_shape(shapes if node.kind in _MERGING else shapes[0]), node)
            tensors[node.name] = layer(given)
            _check_tensor(tensors[node.name].shape, node)
        except ModelError:
            raise
        except Exception as error:  # Keras has many ways to say that a layer does not fit
            what = printable(" ".join(str(error).split()))[:200]
            raise ModelError(
                f"layer {node.own} ({node.kind}) does not fit its input {shapes[0]}: {what}"
            ) from None
    output = tensors[graph.output]
    if len(output.shape) != 2 or output.shape[1] is None:
        raise ModelError(f"the model puts out {tuple(output.shape)}; (images, classes) is needed")
    return keras.Model(source, output, name="imported")


def _input_name(graph: Graph) -> str:
    names, name = {node.name for node in graph.nodes}, INPUT
    while name in names or f"{name}_gray" in names:
        name += "_"
    return name


def _layer(node: Node) -> Any:
    if node.kind in _OURS:
        return _OURS[node.kind](**node.settings, name=node.name, dtype="float32")
    settings = dict(node.settings)
    if node.kind in ("BatchNormalization", "Softmax") and isinstance(settings.get("axis"), list):
        settings["axis"] = settings["axis"][0]
    if node.kind == "Reshape":
        settings["target_shape"] = tuple(settings["target_shape"])
    return getattr(keras.layers, node.kind)(**settings, name=node.name, dtype="float32")


def _check_tensor(shape: Any, node: Node) -> None:
    if any(side is None or side < 1 for side in shape[1:]):
        raise ModelError(f"layer {node.own} puts out {tuple(shape)[1:]}; --preprocessing needs another size")
    if math.prod(shape[1:]) > LARGEST_TENSOR:
        raise ModelError(f"layer {node.own} puts out {math.prod(shape[1:]):,} values for an image; too many")


def _check_axes(node: Node, shape: tuple[Any, ...]) -> None:
    """Norms and softmax are along the channels, which are last."""
    if node.kind in ("BatchNormalization", "LayerNormalization", "Normalization", "Softmax"):
        axis = node.settings.get("axis", -1)
        axis = axis[0] if isinstance(axis, list) else axis
        if axis not in (-1, len(shape) - 1) and not (axis is None and node.kind == "Normalization"):
            raise ModelError(f"layer {node.own} works along axis {axis}; the channels, last, are needed")


def _weights(node: Node, shape: tuple[Any, ...]) -> int:
    """How many weights the layer will have, from its settings alone."""
    settings, channels = node.settings, int(shape[-1])
    kernel = settings.get("kernel_size", 1)
    area = math.prod(kernel * (3 - len(kernel))) if isinstance(kernel, list) else kernel**2
    multiplier = settings.get("depth_multiplier", 1)
    if node.kind == "Dense":
        return (channels + 1) * int(settings["units"])
    if node.kind == "Conv2D":
        return (area * channels // int(settings.get("groups", 1)) + 1) * int(settings["filters"])
    if node.kind == "DepthwiseConv2D":
        return (area + 1) * channels * int(multiplier)
    if node.kind == "SeparableConv2D":
        return (area + int(settings["filters"])) * channels * int(multiplier) + int(settings["filters"])
    if node.kind == "PReLU":
        return math.prod(int(side) for side in shape[1:])
    return 4 * channels if "Normalization" in node.kind or node.kind == "LayerScale" else 0


def write_network(graph: Graph, file: Path) -> None:
    """Write `graph` as JSON: what `read_network` rebuilds, with nothing of the file it came from."""
    layers = [
        {"name": node.name, "class": node.kind, "settings": node.settings, "inputs": list(node.inputs)}
        for node in graph.nodes
    ]
    whole = {"format": 1, "channels": graph.shape[2], "layers": layers, "output": graph.output}
    file.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_network(file: Path) -> Graph:
    """The graph that `write_network` wrote, checked as strictly as one from elsewhere. Raises ModelError."""
    shown = printable(file)
    with file.open("rb") as stream:
        content = stream.read(LARGEST_CONFIGURATION + 1)
    if len(content) > LARGEST_CONFIGURATION:
        raise ModelError(f"{shown} has more than {LARGEST_CONFIGURATION:,} bytes, the limit")
    whole = read_json(content, shown)
    try:
        layers, output, channels = whole["layers"], whole["output"], whole["channels"]
        if whole["format"] != 1 or channels not in (1, 3) or not isinstance(output, str):
            raise ValueError("format, channels or output")
        if not isinstance(layers, list) or not 1 <= len(layers) <= MOST_LAYERS:
            raise ValueError("layers")
        nodes = [_node(layer) for layer in layers]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{shown} is damaged: {printable(str(error))[:80]}; import the model again"
        ) from None
    by_name = {node.own: node for node in nodes}
    if len(by_name) != len(nodes) or INPUT in by_name:
        raise ModelError(f"{shown} is damaged: two layers have one name; import the model again")
    return flat(by_name, output, (None, None, channels))


def _node(layer: Any) -> Node:
    name = checked_name(layer["name"])
    kind = check_class(layer["class"], f"layer {name}")
    if kind not in LAYERS:
        raise ValueError(f"layer {name}")
    inputs = layer["inputs"]
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= 200 or not all(type(i) is str for i in inputs):
        raise ValueError(f"inputs of layer {name}")
    if len(inputs) != 1 and kind not in _MERGING:
        raise ValueError(f"inputs of layer {name}")
    return Node(
        name, kind, checked_settings(kind, layer["settings"], f"layer {name}"), tuple(inputs), own=name
    )
