"""The layers of a Keras configuration as one flat, checked graph: nested models opened, names made unique."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from worker.errors import ModelError
from worker.file_names import printable
from worker.keras_import.calls import one_reference, read_call
from worker.keras_import.config import LAYERS, check_class, checked_settings
from worker.keras_import.operations import (
    KERAS_2_CLASS,
    SECOND,
    is_operation,
    name_in_keras_3,
    operation,
)

MOST_LAYERS = 3000
_DEEPEST = 10
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/ ]{0,149}", re.ASCII)
_MODELS = ("Functional", "Sequential", "Model")


@dataclass(frozen=True)
class Node:
    """One layer. `place` and `group`: where its weights are, in a `.keras` file and in an `.h5` one; `own`:
    its name there."""

    name: str
    kind: str
    settings: dict[str, Any]
    inputs: tuple[str, ...]
    place: str = ""
    group: str = ""
    own: str = ""


@dataclass(frozen=True)
class Graph:
    """`nodes` from input to output. `shape`: height, width (None: any) and channels of the one input, which
    is called `INPUT` among the inputs of nodes."""

    nodes: tuple[Node, ...]
    output: str
    shape: tuple[int | None, int | None, int]


INPUT = "input"


@dataclass
class _Found:
    keras: int
    nodes: dict[str, Node] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    shape: tuple[int | None, int | None, int] | None = None


def read_graph(model: dict[str, Any], keras: int) -> Graph:
    """The graph of a model's configuration as Keras writes it. Raises ModelError for what is not known."""
    found = _Found(keras)
    output = _open(model, found, key="", source=None, place="", group="", depth=0)
    if found.shape is None:
        raise ModelError(
            "the model does not say the shape of its input; build it with an Input and save again"
        )
    nodes = {
        key: replace(node, inputs=tuple(_resolved(one, found) for one in node.inputs))
        for key, node in found.nodes.items()
    }
    return flat(nodes, _resolved(output, found), found.shape)


def flat(nodes: dict[str, Node], output: str, shape: tuple[int | None, int | None, int]) -> Graph:
    """What `output` needs of `nodes`, in order, under unique names. Raises ModelError for circles."""
    order = _ordered(nodes, output)
    own = Counter(_clean(nodes[key].own) for key in order)
    names: dict[str, str] = {INPUT: INPUT}
    taken = {INPUT}
    for key in order:
        name = _clean(nodes[key].own)
        if own[name] > 1 or name in taken:
            name = _clean(key.replace(">", "_"))[-180:]
        while name in taken:
            name += "_"
        names[key] = name
        taken.add(name)
    renamed = tuple(
        replace(nodes[key], name=names[key], inputs=tuple(names[one] for one in nodes[key].inputs))
        for key in order
    )
    return Graph(renamed, names[output], shape)


def _clean(name: str) -> str:
    return name.replace("/", "_").replace(" ", "_")


def _ordered(nodes: dict[str, Node], output: str) -> list[str]:
    order: list[str] = []
    state: dict[str, int] = {INPUT: 2}
    stack = [output]
    while stack:
        key = stack[-1]
        if key not in nodes and key != INPUT:
            raise ModelError(
                f"layer {printable(key)[:60]} is used in the model but not in its list of layers"
            )
        if state.get(key, 0) == 0:
            state[key] = 1
            for one in nodes[key].inputs:
                if state.get(one, 0) == 1:
                    raise ModelError(f"layer {nodes[key].own} is fed by itself, in a circle")
                if state.get(one, 0) == 0:
                    stack.append(one)
        else:
            stack.pop()
            if state[key] == 1:
                state[key] = 2
                order.append(key)
    return order


def _resolved(key: str, found: _Found) -> str:
    for _ in range(len(found.same) + 1):
        if key not in found.same:
            return key
        key = found.same[key]
    raise ModelError("the model is fed by itself, in a circle")


def _open(
    model: Any, found: _Found, *, key: str, source: str | None, place: str, group: str, depth: int
) -> str:
    """Add the layers of a model to `found`; the key of its output. `source` feeds a nested one."""
    if depth > _DEEPEST:
        raise ModelError(f"models are nested more than {_DEEPEST} deep")
    kind, config = _part(model, "the model"), _settings(model)
    if kind not in _MODELS:
        raise ModelError(f"the file holds a {kind}, not a functional or sequential Keras model")
    layers = config.get("layers")
    if not isinstance(layers, list) or not layers:
        raise ModelError("the model has no layers; the file is damaged")
    prefix = f"{key}>" if key else ""
    places: Counter[str] = Counter()
    before = source
    seen: set[str] = set()
    if kind == "Sequential":
        before = _sequential_input(layers, config, found, source)
    for layer in layers:
        own = _own_name(layer)
        if own in seen:
            raise ModelError(f"two layers are called {own}; names must differ")
        seen.add(own)
        inner_kind = _part(layer, f"layer {own}")
        if kind == "Sequential" and inner_kind == "InputLayer":
            continue
        at = f"{place}layers/{_numbered(inner_kind, places)}"
        this = prefix + own
        if inner_kind == "InputLayer":
            if source is None:
                _take_shape(
                    _settings(layer).get("batch_shape", _settings(layer).get("batch_input_shape")), found
                )
            found.same[this] = source or INPUT
            continue
        inputs, constants = (
            ([str(before)], [])
            if kind == "Sequential"
            else read_call(
                layer, own, prefix, found.keras, second=SECOND if inner_kind == KERAS_2_CLASS else None
            )
        )
        _add(layer, inner_kind, found, this, own, inputs, constants, at, group or own, depth)
        before = this
        if len(found.nodes) > MOST_LAYERS:
            raise ModelError(f"the model has more than {MOST_LAYERS:,} layers, the limit")
    if kind == "Sequential":
        return str(before)
    one_reference(config.get("input_layers"), "input")
    return prefix + one_reference(config.get("output_layers"), "output")


def _add(
    layer: Any, kind: str, found: _Found, key: str, own: str, inputs: list[Any], constants: list[Any],
    place: str, group: str, depth: int,
) -> None:  # fmt: skip
    where = f"layer {own}"
    if kind in _MODELS:
        if len(inputs) != 1 or constants:
            raise ModelError(f"{where} is a model with {len(inputs)} inputs; one is needed")
        found.same[key] = _open(
            layer, found, key=key, source=inputs[0], place=f"{place}/", group=group, depth=depth + 1
        )
        return
    if kind == KERAS_2_CLASS:
        kind = name_in_keras_3(_settings(layer), where)
        name, settings = operation(kind, inputs, constants, where)
    elif is_operation(kind, str(layer.get("module") or ""), constants):
        if any(value != -1 for key, value in _settings(layer).items() if key not in ("name", "dtype")):
            raise ModelError(f"{where} is the calculation {kind} with settings; use a layer of Keras")
        name, settings = operation(kind, inputs, constants, where)
    elif constants:
        raise ModelError(f"{where} is called with a number beside tensors, which cannot be imported")
    else:
        name = check_class(kind, where)
        settings = checked_settings(name, _settings(layer), where, found.keras)
        name = name if name in LAYERS else "Identity"
    if name not in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Concatenate") and len(inputs) != 1:
        raise ModelError(f"{where} has {len(inputs)} inputs; one is needed")
    found.nodes[key] = Node(key, name, settings, tuple(inputs), place, group, own)


def _part(layer: Any, where: str) -> str:
    """The class that a part of the configuration is of; one that is not of Keras is refused."""
    if not isinstance(layer, dict) or not isinstance(layer.get("class_name"), str):
        raise ModelError(f"{where} has no class; the file is damaged")
    kind = printable(str(layer["class_name"]))[:60]
    module, registered = layer.get("module"), layer.get("registered_name")
    # Keras 3 names the module of what is its own, and a registered name of what is not.
    foreign = module is not None and str(module).split(".")[0] not in ("keras", "tf_keras")
    if foreign or registered not in (None, kind) or ">" in kind:
        raise ModelError(
            f"{where} is a {kind} of somebody's own, whose code is not in the file and would not be run; "
            "build the model of layers of Keras"
        )
    return kind


def _settings(layer: Any) -> dict[str, Any]:
    config = layer.get("config")
    if isinstance(config, list):  # sequential models of early Keras 2
        return {"layers": config}
    if not isinstance(config, dict):
        raise ModelError("a layer of the model has no settings; the file is damaged")
    return config


def _own_name(layer: Any) -> str:
    name = None
    if isinstance(layer, dict):
        config = layer.get("config")
        name = layer.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return checked_name(name)


def checked_name(name: Any) -> str:
    """`name` where a layer may be called so: names are keys, labels and parts of files. Raises ModelError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name or name.startswith("/"):
        raise ModelError(
            f"a layer is called {printable(str(name))[:60]!r}; names are of letters, digits, _ . - and spaces"
        )
    return name


def _numbered(kind: str, places: Counter[str]) -> str:
    """The name of a layer's weights in a `.keras` file: its class in small letters, its number if not 0."""
    snake = re.sub(
        r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    )
    snake = snake.lower()
    places[snake] += 1
    return snake if places[snake] == 1 else f"{snake}_{places[snake] - 1}"


def _sequential_input(layers: list[Any], config: dict[str, Any], found: _Found, source: str | None) -> str:
    if source is not None:
        return source
    first = _settings(layers[0]) if isinstance(layers[0], dict) else {}
    shapes = [first.get("batch_shape"), first.get("batch_input_shape"), config.get("build_input_shape")]
    nested = first.get("layers")
    if isinstance(nested, list) and nested and isinstance(nested[0], dict):
        inner = _settings(nested[0])
        shapes += [inner.get("batch_shape"), inner.get("batch_input_shape")]
    known = next((shape for shape in shapes if shape is not None), None)
    _take_shape(known, found)
    return INPUT


def _take_shape(shape: Any, found: _Found) -> None:
    if found.shape is not None:
        raise ModelError("the model has several inputs; one image is all there is to give it")
    if not isinstance(shape, list | tuple) or len(shape) != 4:
        raise ModelError(
            f"the model's input is {printable(str(shape))[:60]}; (height, width, channels) is needed"
        )
    for side in shape[1:]:
        if side is not None and (type(side) is not int or not 1 <= side <= 4096):
            raise ModelError(f"the model's input is {printable(str(shape))[:60]}, no shape of an image")
    height, width, channels = shape[1:]
    if channels not in (1, 3):
        raise ModelError(
            f"the model's input has {channels} channels (last); 1 or 3 are needed, and channels_last"
        )
    found.shape = (height, width, channels)
