"""The network: one of `architectures` with the reference head; built, saved and loaded as a model folder."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors.numpy import load_file, save_file

from worker.errors import ModelError
from worker.file_names import printable
from worker.model.architectures import ARCHITECTURES, MOBILENETV2, Architecture
from worker.model.metadata import (
    Head,
    Layer,
    ModelMetadata,
    Weights,
    check_folder,
    sha256_of,
    write_metadata,
)
from worker.safe_files import apply_umask

SCORE_LAYER = "score"


def build_network(
    size: int, classes: int, head: Head, alpha: float = 1.0, architecture: str = MOBILENETV2.name
) -> Any:
    """A `keras.Model` with fresh weights, whose layers have the same names each time.

    Input: float32 (batch, size, size, 3), scaled as the model's preprocessing says.
    Output: float32 (batch, classes), the scores before the softmax ("logits"): what class activation
    maps are the gradient of, since the softmax of a confident image has a gradient of zero.
    """
    base = build_base(ARCHITECTURES[architecture], size, alpha)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(base.output)
    x = keras.layers.BatchNormalization(name="head_pool_BN")(x)
    x = keras.layers.Dropout(head.dropout, name="head_dropout")(x)
    x = keras.layers.Dense(head.units, kernel_regularizer=keras.regularizers.L2(head.l2), name="head_dense")(
        x
    )
    x = keras.layers.BatchNormalization(name="head_dense_BN")(x)
    x = keras.layers.ReLU(name="head_relu")(x)
    scores = keras.layers.Dense(classes, name=SCORE_LAYER)(x)
    return keras.Model(base.input, scores, name=architecture.replace("-", "_"))


def build_base(architecture: Architecture, size: int, alpha: float = 1.0, weights: str | None = None) -> Any:
    """The network of `keras.applications` without its classifier; `weights`: None or `imagenet`."""
    options = {"alpha": alpha} if architecture.has_alpha else {}
    build = getattr(keras.applications, architecture.constructor)
    base = build(input_shape=(size, size, 3), include_top=False, weights=weights, **options)
    _name_alike(base)
    return base


def _name_alike(network: Any) -> None:
    """Number the layers that Keras names itself within this network: it numbers them within the process."""
    seen: Counter[str] = Counter()
    for operation in network.operations:
        kind = re.sub("(.)([A-Z][a-z]+)|([a-z])([A-Z])", r"\1\3_\2\4", type(operation).__name__).lower()
        if re.fullmatch(rf"{kind}(_\d+)?", operation.name):
            operation.name = f"{kind}_{seen[kind]}" if seen[kind] else kind
            seen[kind] += 1


def layer_named(network: Any, name: str) -> Any:
    """The layer or operation called `name`. Raises ValueError when there is none."""
    for operation in network.operations:
        if operation.name == name:
            return operation
    raise ValueError(f"no layer {name}")


def named_weights(network: Any) -> Iterator[tuple[str, Any]]:
    """The variables of `network` that are stored, each with a name that is the same in every process."""
    for layer in network.layers:
        seen: Counter[str] = Counter()
        for variable in layer.variables:
            if "seed_generator" in variable.path:
                continue
            # Keras names a layer's part after it, and what has no name of its own `variable`, with a number.
            name = re.sub(r"/variable_\d+$", "/variable", f"{layer.name}/{variable.path.partition('/')[2]}")
            seen[name] += 1
            yield name if seen[name] == 1 else f"{name}_{seen[name] - 1}", variable


def spatial_layers(network: Any, architecture: str = MOBILENETV2.name) -> tuple[Layer, ...]:
    """The layers that put out a map (height, width, channels), from input to output."""
    block_ends = ARCHITECTURES[architecture].block_ends
    found = []
    for layer in network.operations:
        shape = layer.output.shape
        if len(shape) != 4 or isinstance(layer, keras.layers.InputLayer):
            continue
        _, height, width, channels = shape
        suits = block_ends.fullmatch(layer.name) is not None and min(height, width) >= 4
        found.append(
            Layer(name=layer.name, height=height, width=width, channels=channels, is_cam_candidate=suits)
        )
    return tuple(found)


def save_model(network: Any, folder: Path, *, metadata: dict[str, Any]) -> ModelMetadata:
    """Write `network` as the model folder `folder`, whole or not at all.

    `metadata` holds the fields of `ModelMetadata` except `weights`. Kernels are stored in half
    precision; vectors (biases, batch norms) and kernels whose range that does not cover, in single.
    Raises ModelError if `folder` exists.
    """
    if folder.exists():
        raise ModelError(f"{folder} exists already; a model version is never overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    half_done = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        arrays = {name: _to_disk(np.asarray(variable.value)) for name, variable in named_weights(network)}
        save_file(arrays, half_done / "weights.safetensors")
        apply_umask(half_done / "weights.safetensors")
        digest = sha256_of(half_done / "weights.safetensors")
        whole = ModelMetadata.model_validate({**metadata, "weights": Weights(sha256=digest)})
        write_metadata(half_done, whole)
        apply_umask(half_done)
        half_done.rename(folder)
    except BaseException:
        shutil.rmtree(half_done, ignore_errors=True)
        raise
    return whole


def round_to_stored_precision(network: Any) -> None:
    """Give `network` the weights it will have when it is loaded again, so that figures are of those."""
    for _, variable in named_weights(network):
        variable.assign(_to_disk(np.asarray(variable.value)).astype(np.float32))


def load_model(folder: Path) -> tuple[ModelMetadata, Any]:
    """Check `folder` and rebuild its network. Raises ModelError when anything does not fit."""
    metadata = check_folder(folder)
    file = folder / metadata.weights.file
    try:
        arrays = load_file(file)
    except Exception as error:  # of the many kinds a damaged file leads to in the library
        raise ModelError(
            f"model {metadata.version}: {printable(file)} cannot be read: {_in_one_line(error)}"
        ) from error
    try:
        network = fresh_network(metadata, folder)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"model {metadata.version}: there is no such network: {_in_one_line(error)}"
        ) from error
    assign_weights(network, arrays, metadata.version)
    return metadata, network


def fresh_network(metadata: ModelMetadata, folder: Path = Path()) -> Any:
    """The network that `metadata` describes, with fresh weights; `folder` holds an imported one's record."""
    if metadata.network is None:
        return build_network(
            metadata.preprocessing.size,
            len(metadata.classes),
            metadata.head,
            metadata.alpha,
            metadata.architecture,
        )
    from worker.keras_import.rebuild import read_network, rebuild

    network = rebuild(read_network(folder / metadata.network.file), metadata.preprocessing.size)
    if network.output.shape[1] != len(metadata.classes):
        raise ModelError(
            f"model {metadata.version}: its network has {network.output.shape[1]} scores, "
            f"model.json {len(metadata.classes)} classes"
        )
    return network


def _in_one_line(error: Exception) -> str:
    return printable(" ".join(str(error).split()))[:300] or type(error).__name__


def assign_weights(network: Any, arrays: dict[str, np.ndarray[Any, Any]], version: str) -> None:
    """Set every variable of `network` from `arrays`, by name. Raises ModelError on any mismatch."""
    for name, variable in named_weights(network):
        array = arrays.get(name)
        if array is None:
            raise ModelError(f"model {version}: no weights for {name}; it was made for another network")
        if tuple(array.shape) != tuple(variable.shape):
            raise ModelError(
                f"model {version}: weights for {name} are {tuple(array.shape)}, "
                f"the network needs {tuple(variable.shape)}"
            )
        if not np.isfinite(array).all():
            raise ModelError(f"model {version}: weights for {name} hold values that are not numbers")
        variable.assign(array.astype(np.float32))


def _to_disk(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Half precision for kernels, as long as it holds them; single for the rest."""
    half = array.ndim > 1 and float(np.abs(array).max(initial=0.0)) < np.finfo(np.float16).max
    return array.astype(np.float16 if half else np.float32, order="C")
