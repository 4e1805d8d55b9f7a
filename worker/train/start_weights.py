"""The weights a training starts from: ImageNet's, a file, or an existing model version."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras

from worker.errors import XraycamError
from worker.model.metadata import METADATA_FILE
from worker.model.network import load_model

SETTING = "--init-weights (XRAYCAM_INIT_WEIGHTS)"


class StartWeightsError(XraycamError):
    """Raised when the weights to start from are missing or do not fit the network."""


def load_start_weights(network: Any, source: str, *, alpha: float) -> str:
    """Set the weights of `network` from `source` and say in a few words which they are.

    `imagenet`: Keras's download, without its classifier. A file `*.weights.h5` or `*.h5`: MobileNetV2
    without top, of the same `alpha`. A model folder: all of it, but the head only where it fits. `none`:
    random weights, as they are. Raises StartWeightsError.
    """
    if source == "none":
        return "random weights"
    if source == "imagenet":
        _take_over(network, _imagenet(alpha))
        return "ImageNet (Keras's download)"
    path = Path(source)
    if (path / METADATA_FILE).is_file():
        return _from_version(network, path)
    if not path.is_file():
        raise StartWeightsError(
            f"{SETTING} is {source!r}, which is no file and no model folder; "
            "give imagenet, a MobileNetV2 .weights.h5 file without top, or a model folder"
        )
    base = _headless(alpha)
    try:
        with warnings.catch_warnings():
            # What a file lacks, Keras leaves at random values and merely warns.
            warnings.simplefilter("error", UserWarning)
            base.load_weights(path)
    except Exception as error:  # h5py and Keras raise many kinds for a file that does not fit
        cause = " ".join(str(error).split())[:200]
        raise StartWeightsError(
            f"{SETTING} is {source!r}, which does not hold MobileNetV2 weights without top "
            f"(alpha {alpha}): {cause}"
        ) from error
    _take_over(network, base)
    return f"the file {path.name}"


def _headless(alpha: float, weights: str | None = None) -> Any:
    # At 224, the size Keras keeps its files under; the weights do not depend on the size.
    return keras.applications.MobileNetV2(
        input_shape=(224, 224, 3), alpha=alpha, include_top=False, weights=weights
    )


def _imagenet(alpha: float) -> Any:
    try:
        return _headless(alpha, "imagenet")
    except Exception as error:  # urllib, ssl, h5py or Keras, depending on where the download breaks
        cause = " ".join(str(error).split())[:200]
        raise StartWeightsError(
            f"the ImageNet weights for alpha {alpha} cannot be downloaded ({cause}); "
            f"fetch a MobileNetV2 .weights.h5 file without top elsewhere and give it with {SETTING}"
        ) from error


def _take_over(network: Any, base: Any) -> None:
    for layer in base.layers:
        if layer.weights:
            network.get_layer(layer.name).set_weights(layer.get_weights())


def _from_version(network: Any, folder: Path) -> str:
    description, other = load_model(folder)
    values = {variable.path: variable for variable in other.variables}
    left = []
    for variable in network.variables:
        if "seed_generator" in variable.path:
            continue
        value = values.get(variable.path)
        if value is not None and tuple(value.shape) == tuple(variable.shape):
            variable.assign(value)
        else:
            left.append(variable.path)
    outside = [path for path in left if not path.startswith(("head_", "score"))]
    if outside:
        raise StartWeightsError(
            f"{SETTING} is {str(folder)!r}, version {description.version} (alpha {description.alpha}), "
            f"which does not fit the recipe's network at {outside[0]}"
        )
    return f"version {description.version}" + (" without its head" if left else "")
