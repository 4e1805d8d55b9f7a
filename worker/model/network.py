"""The network: MobileNetV2 with the reference head; built, saved and loaded as a model folder."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors.numpy import load_file, save_file

from worker.errors import ModelError
from worker.file_names import printable
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


def build_network(size: int, classes: int, head: Head, alpha: float = 1.0) -> Any:
    """A `keras.Model` with fresh weights.

    Input: float32 (batch, size, size, 3), scaled as the model's preprocessing says.
    Output: float32 (batch, classes), the scores before the softmax ("logits"): what class activation
    maps are the gradient of, since the softmax of a confident image has a gradient of zero.
    """
    base = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=alpha, include_top=False, weights=None
    )
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(base.output)
    x = keras.layers.BatchNormalization(name="head_pool_BN")(x)
    x = keras.layers.Dropout(head.dropout, name="head_dropout")(x)
    x = keras.layers.Dense(head.units, kernel_regularizer=keras.regularizers.L2(head.l2), name="head_dense")(
        x
    )
    x = keras.layers.BatchNormalization(name="head_dense_BN")(x)
    x = keras.layers.ReLU(name="head_relu")(x)
    scores = keras.layers.Dense(classes, name=SCORE_LAYER)(x)
    return keras.Model(base.input, scores, name="mobilenetv2")


def spatial_layers(network: Any) -> tuple[Layer, ...]:
    """The layers that put out a map (height, width, channels), from input to output."""
    found = []
    for layer in network.layers:
        shape = layer.output.shape
        if len(shape) != 4 or isinstance(layer, keras.layers.InputLayer):
            continue
        _, height, width, channels = shape
        ends_a_block = layer.name.endswith(("_add", "_project_BN")) or layer.name == "out_relu"
        suits = ends_a_block and min(height, width) >= 4
        found.append(
            Layer(name=layer.name, height=height, width=width, channels=channels, is_cam_candidate=suits)
        )
    return tuple(found)


def save_model(network: Any, folder: Path, *, metadata: dict[str, Any]) -> ModelMetadata:
    """Write `network` as the model folder `folder`, whole or not at all.

    `metadata` holds the fields of `ModelMetadata` except `weights`. Kernels are stored in half
    precision; vectors (biases, batch norms), whose range half precision does not cover, in single.
    Raises ModelError if `folder` exists.
    """
    if folder.exists():
        raise ModelError(f"{folder} exists already; a model version is never overwritten")
    folder.parent.mkdir(parents=True, exist_ok=True)
    half_done = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        arrays = {
            variable.path: _to_disk(np.asarray(variable.value))
            for variable in network.variables
            if "seed_generator" not in variable.path
        }
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
    for variable in network.variables:
        if "seed_generator" not in variable.path:
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


def fresh_network(metadata: ModelMetadata, folder: Path) -> Any:
    """The network that `metadata` describes, with fresh weights; `folder` holds an imported one's record."""
    if metadata.network is None:
        return build_network(
            metadata.preprocessing.size, len(metadata.classes), metadata.head, metadata.alpha
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
    """Set every variable of `network` from `arrays`, by path. Raises ModelError on any mismatch."""
    for variable in network.variables:
        if "seed_generator" in variable.path:
            continue
        array = arrays.get(variable.path)
        if array is None:
            raise ModelError(
                f"model {version}: no weights for {variable.path}; it was made for another network"
            )
        if tuple(array.shape) != tuple(variable.shape):
            raise ModelError(
                f"model {version}: weights for {variable.path} are {tuple(array.shape)}, "
                f"the network needs {tuple(variable.shape)}"
            )
        if not np.isfinite(array).all():
            raise ModelError(f"model {version}: weights for {variable.path} hold values that are not numbers")
        variable.assign(array.astype(np.float32))


def _to_disk(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array.astype(np.float16 if array.ndim > 1 else np.float32))
