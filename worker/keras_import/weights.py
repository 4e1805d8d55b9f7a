"""The weights of a Keras file, each read only where its shape and kind are those that the network needs."""

from __future__ import annotations

import math
from typing import Any

import h5py
import numpy as np

from worker.errors import ModelError
from worker.file_names import printable
from worker.keras_import.archive import KerasFile
from worker.keras_import.graph import Graph, Node

_MOST_NAMES = 100_000
# No layer is called so.
_ALL = ""


def read_weights(file: KerasFile, graph: Graph, network: Any) -> None:
    """Give `network`, rebuilt of `graph`, the weights in `file`. Raises ModelError where any is missing, of
    another shape, or holds values that are not numbers."""
    layers = {layer.name: layer for layer in network.layers}
    groups: dict[str, dict[str, list[Any]]] = {}
    for node in graph.nodes:
        variables = _variables(layers[node.name])
        if not variables:
            continue
        try:
            found = _by_name(file, node, groups) if file.legacy else _by_place(file, node)
            if len(found) != len(variables):
                raise ModelError(
                    f"layer {node.own}: the file holds {len(found)} weights, the layer has {len(variables)}"
                )
            for variable, dataset in zip(variables, found, strict=True):
                variable.assign(_values(dataset, tuple(variable.shape), node))
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            what = printable(" ".join(str(error).split()))[:120]
            raise ModelError(f"layer {node.own}: its weights cannot be read: {what}") from None


def _variables(layer: Any) -> list[Any]:
    """In the order in which Keras writes them."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _child(group: Any, name: str) -> Any:
    """What lies in `group` itself: links into other places and files are not followed."""
    if not isinstance(group, h5py.Group) or not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise KeyError(f"there is no {name}")
    return group[name]


def _descend(group: Any, path: str) -> Any:
    for part in path.split("/"):
        group = _child(group, part)
    return group


def _by_place(file: KerasFile, node: Node) -> list[Any]:
    try:
        group = _descend(file.weights, node.place)
    except KeyError:  # as Keras 2.12 had it
        group = _descend(file.weights, node.place.replace("layers/", "_layer_checkpoint_dependencies/"))
    name = group.attrs.get("name")
    if isinstance(name, str) and name != node.own:
        raise ValueError(f"they are those of {name}")
    values = _child(group, "vars")
    if len(values) > 10:
        raise ValueError("there are too many")
    return [_child(values, str(number)) for number in range(len(values))]


def _by_name(file: KerasFile, node: Node, groups: dict[str, dict[str, list[Any]]]) -> list[Any]:
    if node.group not in groups:
        groups[node.group] = _grouped(_descend(file.weights, node.group), node.group)
    parts = groups[node.group]
    if node.group == node.own:  # a layer, not a nested model: whatever the names, all are its own
        return parts[_ALL]
    if node.own not in parts:
        raise KeyError("they are not in the file")
    return parts[node.own]


def _grouped(group: Any, name: str) -> dict[str, list[Any]]:
    """Datasets by the layer their name says, in the order of the file."""
    names = [one.decode("utf-8") if isinstance(one, bytes) else str(one) for one in _weight_names(group)]
    parts: dict[str, list[Any]] = {_ALL: []}
    shorter: dict[str, list[Any]] = {}
    seen = set()
    for one in names:
        if one in seen:
            raise ValueError(f"{one} is there twice")
        seen.add(one)
        owner = one.rsplit("/", 1)[0] if "/" in one else name
        dataset = _descend(group, one)
        parts[_ALL].append(dataset)
        parts.setdefault(owner, []).append(dataset)
        shorter.setdefault(owner.rsplit("/", 1)[-1], []).append(dataset)
    # Names of layers may have a `/` themselves: `conv1/bn` is another layer than `bn`.
    return {**shorter, **parts}


def _weight_names(group: Any) -> list[Any]:
    if "weight_names" in group.attrs:
        return _text_list(group, "weight_names")
    names: list[Any] = []
    number = 0
    while f"weight_names{number}" in group.attrs:
        names += _text_list(group, f"weight_names{number}")
        number += 1
    return names


def _text_list(group: Any, name: str) -> list[Any]:
    found = group.attrs.get_id(name)
    if len(found.shape) != 1 or found.shape[0] > _MOST_NAMES or found.get_storage_size() > 20_000_000:
        raise ValueError(f"{name} is no list of names")
    return list(group.attrs[name])


def _values(dataset: Any, shape: tuple[int, ...], node: Node) -> Any:
    if not isinstance(dataset, h5py.Dataset):
        raise TypeError("they are no dataset")
    if dataset.is_virtual or dataset.external:
        raise ValueError("they lie in another file")
    if tuple(dataset.shape) != shape:
        raise ModelError(f"layer {node.own}: the file holds weights {dataset.shape}, the layer needs {shape}")
    if dataset.chunks is not None and math.prod(dataset.chunks) > 2 * max(1, math.prod(shape)):
        raise ValueError("they are packed in pieces larger than they are")
    kind = dataset.dtype
    is_bfloat = kind.itemsize == 2 and kind.kind == "V"
    if not is_bfloat and not (kind.kind == "f" and kind.itemsize in (2, 4, 8)) and kind.kind not in "iu":
        raise ValueError(f"they are {kind}, not numbers")
    values = np.asarray(dataset[()])
    if is_bfloat:
        values = (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    elif dataset.attrs.get("dtype") == "bfloat16":
        values = values.astype(np.float32)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ModelError(f"layer {node.own} holds weights that are not numbers (NaN or infinity)")
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if not np.isfinite(single).all():
        raise ModelError(f"layer {node.own} holds weights too large for single precision")
    return single
