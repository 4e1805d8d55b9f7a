"""How a layer is called in a Keras configuration: the layers that feed it, and numbers beside them."""

from __future__ import annotations

from typing import Any

from worker.errors import ModelError
from worker.file_names import printable

# What Keras 2 writes in place of a layer where the first argument is a number.
_NUMBER = "_CONSTANT_VALUE"


def read_call(
    layer: dict[str, Any], own: str, prefix: str, keras: int, *, second: str | None = None
) -> tuple[list[str], list[tuple[int, float]]]:
    """The inputs of a layer's one call, each with `prefix` before it, and numbers among them by place.

    `second`: the name by which a calculation of Keras 2 has its second argument. Raises ModelError.
    """
    nodes = layer.get("inbound_nodes")
    if not isinstance(nodes, list) or not nodes:
        raise ModelError(f"layer {own} is fed by nothing; only an Input may be")
    if len(nodes) > 1:
        raise ModelError(
            f"layer {own} is used {len(nodes)} times in the model, which cannot be explained layer by layer; "
            "build it with a layer for each use"
        )
    node = nodes[0]
    if isinstance(node, dict):
        inputs, constants = _of_keras_3(node, own, keras)
    elif isinstance(node, list):
        inputs, constants = _of_keras_2(node, own, keras, second)
    else:
        raise ModelError(f"layer {own} is damaged: its call cannot be read")
    if not 1 <= len(inputs) <= 200:
        raise ModelError(f"layer {own} has {len(inputs)} inputs; 1 to 200 can be")
    return [prefix + name for name in inputs], constants


def _of_keras_3(node: dict[str, Any], own: str, keras: int) -> tuple[list[str], list[tuple[int, float]]]:
    inputs: list[str] = []
    constants: list[tuple[int, float]] = []
    arguments, options = node.get("args"), node.get("kwargs") or {}
    if not isinstance(arguments, list) or not isinstance(options, dict):
        raise ModelError(f"layer {own} is damaged: its call cannot be read")
    _check_options(options, own, keras)
    for argument in arguments[0] if len(arguments) == 1 and isinstance(arguments[0], list) else arguments:
        if type(argument) in (int, float):
            constants.append((len(inputs) + len(constants), float(argument)))
        else:
            inputs.append(_history(argument, own))
    return inputs, constants


def _of_keras_2(
    node: list[Any], own: str, keras: int, second: str | None
) -> tuple[list[str], list[tuple[int, float]]]:
    inputs: list[str] = []
    constants: list[tuple[int, float]] = []
    for reference in node if node and isinstance(node[0], list) else [node]:
        if not (isinstance(reference, list) and len(reference) in (3, 4) and isinstance(reference[0], str)):
            raise ModelError(f"layer {own} is damaged: its inputs cannot be read")
        options = dict(reference[3]) if len(reference) == 4 and isinstance(reference[3], dict) else {}
        other = options.pop(second, None) if second is not None else None
        if second is not None and options.get("name", 0) is None:
            del options["name"]
        _check_options(options, own, keras)
        value = reference[2]
        if reference[0] == _NUMBER and isinstance(value, (int, float)) and not isinstance(value, bool):
            constants.append((len(inputs) + len(constants), float(value)))
        elif reference[2] != 0:
            raise ModelError(f"layer {own} takes a second output of {printable(reference[0])[:60]}")
        else:
            inputs.append(reference[0])
        if isinstance(other, (int, float)) and not isinstance(other, bool):
            constants.append((len(inputs) + len(constants), float(other)))
        elif isinstance(other, list) and len(other) == 3 and isinstance(other[0], str) and other[2] == 0:
            inputs.append(other[0])
        elif other is not None:
            raise ModelError(f"layer {own} is a calculation with arrays, which cannot be imported")
    return inputs, constants


def one_reference(value: Any, what: str) -> str:
    """The layer that is a model's one `what`, input or output. Raises ModelError."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not (isinstance(value, list) and len(value) == 3 and isinstance(value[0], str) and value[2] == 0):
        raise ModelError(f"the model has several {what}s, or none; one is needed")
    return value[0]


def _check_options(options: Any, own: str, keras: int) -> None:
    for name, value in options.items() if isinstance(options, dict) else [("", options)]:
        if name == "training" and value is True:
            if keras >= 3:  # predict() overrules it there, and random augmentation has it by default
                continue
            raise ModelError(
                f"layer {own} is called with training=True, so its output is random; build it without"
            )
        if not (name in ("mask", "training") and value in (None, False)):
            raise ModelError(
                f"layer {own} is called with {printable(str(name))[:60]}, which cannot be imported"
            )


def _history(argument: Any, own: str) -> str:
    try:
        name, _, index = argument["config"]["keras_history"]
        if argument["class_name"] != "__keras_tensor__" or not isinstance(name, str) or index != 0:
            raise ValueError(name)
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"layer {own} has an input that is no output of one layer") from None
    return name
