"""A network as a training uses it: the initial weights, and the split into a frozen and a trainable part."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from worker.errors import XraycamError
from worker.explain.forward import scale
from worker.model.architectures import ARCHITECTURES, MOBILENETV2, Architecture
from worker.model.metadata import METADATA_FILE
from worker.model.network import SCORE_LAYER, build_base, layer_named, load_model, named_weights
from worker.train.recipe import Recipe, RecipeError

LOCALISATION = "localisation_"
_HEAD = ("head_", SCORE_LAYER, LOCALISATION)
_START_FROM = "--init-weights (XRAYCAM_INIT_WEIGHTS)"


class InitialWeightsError(XraycamError):
    """Raised when the weights to start from are missing or do not fit the network."""


@dataclass(frozen=True)
class SplitNetwork:
    """Models that share the layers of one network. All but `frozen` take features: what `frozen` puts out, or
    pixels (B, size, size) in 0..255 where nothing is frozen.

    `trainable` gives a dict: `score`, and for each localisation layer `localisation_NAME`, the logits
    (B, h, w, 1) of a marked area, by a convolution of one pixel that only serves the training. `classifier`
    gives the scores (B, classes), `pooled` the features before the head. `layers`: those of `trainable`.
    """

    network: Any
    frozen: Any | None
    trainable: Any
    classifier: Any
    pooled: Any
    layers: tuple[Any, ...]

    def set_trainable(self, *, head_only: bool, batch_norm: bool) -> None:
        """Say which layers learn; `batch_norm`: those of the network too. The head's always do.

        A batch norm that does not learn uses its running mean and variance, in training too.
        """
        for layer in self.layers:
            of_network = not layer.name.startswith(_HEAD)
            fixed_norm = isinstance(layer, keras.layers.BatchNormalization) and not batch_norm
            layer.trainable = not (of_network and (head_only or fixed_norm))

    def recalibrate_batch_norm(self, features: NDArray[Any], batch: int) -> None:
        """Set the running mean and variance of the batch norms that learn to those over `features`.

        Running averages lag behind weights that move, most of all behind averaged ones, and dropout is at
        work while they are taken. (Stochastic weight averaging measures them anew too, arXiv 1803.05407.)
        """
        self._average_batch_statistics(features, batch)
        pooled = self.pooled.predict(features, batch_size=batch, verbose=0)
        first, second = (self.network.get_layer(name) for name in ("head_pool_BN", "head_dense_BN"))
        _set_statistics(first, pooled)
        dense = self.network.get_layer("head_dense")
        _set_statistics(second, dense(first(pooled, training=False)).numpy())

    def _average_batch_statistics(self, features: NDArray[Any], batch: int) -> None:
        """Those of the network, batch by batch: each depends on the norms before it."""
        norms = [
            layer
            for layer in self.layers
            if isinstance(layer, keras.layers.BatchNormalization)
            and layer.trainable
            and not layer.name.startswith(_HEAD)
        ]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for start in range(0, len(features), batch):
            part = features[start : start + batch]
            for norm in norms:
                norm.momentum = start / (start + len(part))
            self.classifier(part.astype(np.float32), training=True)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def split_at_layer(network: Any, recipe: Recipe, localisation_layers: tuple[str, ...] = ()) -> SplitNetwork:
    """Split behind the layer `recipe.freeze_until`; None: all of the network is trainable.

    Raises RecipeError if there is no such layer, or if a connection leads around it.
    """
    pooled = network.get_layer("head_pool").output
    outputs = {SCORE_LAYER: network.output}
    outputs |= {LOCALISATION + name: _localisation_logits(network, name) for name in localisation_layers}
    if recipe.freeze_until is None:
        size = recipe.preprocessing.size
        pixels = keras.Input((size, size))
        scaled = keras.layers.Lambda(partial(scale, preprocessing=recipe.preprocessing))(pixels)
        inner = keras.Model(network.input, outputs)
        return SplitNetwork(
            network,
            frozen=None,
            trainable=keras.Model(pixels, inner(scaled)),
            classifier=keras.Model(pixels, network(scaled)),
            pooled=keras.Model(pixels, keras.Model(network.input, pooled)(scaled)),
            layers=tuple(inner.layers),
        )
    try:
        middle = layer_named(network, recipe.freeze_until).output
        trainable = keras.Model(middle, outputs)
        return SplitNetwork(
            network,
            frozen=keras.Model(network.input, middle),
            trainable=trainable,
            classifier=keras.Model(middle, network.output),
            pooled=keras.Model(middle, pooled),
            layers=tuple(trainable.layers),
        )
    except ValueError as error:
        raise RecipeError(
            f"freeze_until is {recipe.freeze_until!r}; it must be the end of a block, "
            f"such as {ARCHITECTURES[recipe.architecture].freeze_until}"
        ) from error


def _localisation_logits(network: Any, name: str) -> Any:
    try:
        values = layer_named(network, name).output
    except ValueError as error:
        raise RecipeError(f"localisation_layers has {name!r}, which the network has not") from error
    bias = keras.initializers.Constant(-3.0)  # marked areas are small
    return keras.layers.Conv2D(
        1, 1, kernel_initializer="zeros", bias_initializer=bias, name=LOCALISATION + name
    )(values)


def _set_statistics(norm: Any, values: NDArray[np.float32]) -> None:
    norm.moving_mean.assign(values.mean(0))
    norm.moving_variance.assign(values.var(0))


def load_initial_weights(
    network: Any, source: str, architecture: Architecture = MOBILENETV2, *, alpha: float = 1.0
) -> str:
    """Set the weights of `network` from `source` and say in a few words which they are.

    `imagenet`: Keras's download, without its classifier. A file `*.weights.h5` or `*.h5`: `architecture`
    without top, of the same `alpha`. A model folder: all of it, but the head only where it fits. `none`:
    random weights, as they are. Raises InitialWeightsError.
    """
    if source == "none":
        return "random weights"
    if source == "imagenet":
        _copy_weights(network, _imagenet(architecture, alpha))
        return "ImageNet (Keras's download)"
    path = Path(source)
    if (path / METADATA_FILE).is_file():
        return _from_version(network, path)
    if not path.is_file():
        raise InitialWeightsError(
            f"{_START_FROM} is {source!r}, which is no file and no model folder; "
            f"give imagenet, a {architecture.constructor} .weights.h5 file without top, or a model folder"
        )
    base = build_base(architecture, _KERAS_SIZE, alpha)
    try:
        with warnings.catch_warnings():
            # What a file lacks, Keras leaves at random values and merely warns.
            warnings.simplefilter("error", UserWarning)
            base.load_weights(path)
    except Exception as error:  # h5py and Keras raise many kinds for a file that does not fit
        cause = " ".join(str(error).split())[:200]
        raise InitialWeightsError(
            f"{_START_FROM} is {source!r}, which does not hold {architecture.constructor} weights without "
            f"top{_width(architecture, alpha)}: {cause}"
        ) from error
    _copy_weights(network, base)
    return f"the file {path.name}"


# The size Keras keeps its files under; the weights do not depend on the size.
_KERAS_SIZE = 224


def _width(architecture: Architecture, alpha: float) -> str:
    return f" (alpha {alpha})" if architecture.has_alpha else ""


def _imagenet(architecture: Architecture, alpha: float) -> Any:
    try:
        return build_base(architecture, _KERAS_SIZE, alpha, "imagenet")
    except Exception as error:  # urllib, ssl, h5py or Keras, depending on where the download breaks
        cause = " ".join(str(error).split())[:200]
        raise InitialWeightsError(
            f"the ImageNet weights of {architecture.constructor}{_width(architecture, alpha)} cannot be "
            f"downloaded ({cause}); fetch a .weights.h5 file of it without top elsewhere and give it with "
            f"{_START_FROM}"
        ) from error


def _copy_weights(network: Any, base: Any) -> None:
    for layer in base.layers:
        if layer.weights:
            network.get_layer(layer.name).set_weights(layer.get_weights())


def _from_version(network: Any, folder: Path) -> str:
    description, other = load_model(folder)
    values = dict(named_weights(other))
    left = []
    for name, variable in named_weights(network):
        value = values.get(name)
        if value is not None and tuple(value.shape) == tuple(variable.shape):
            variable.assign(value)
        else:
            left.append(name)
    outside = [path for path in left if not path.startswith(("head_", "score"))]
    if outside:
        raise InitialWeightsError(
            f"{_START_FROM} is {str(folder)!r}, version {description.version} ({description.architecture}, "
            f"alpha {description.alpha}), which does not fit the recipe's network at {outside[0]}"
        )
    return f"version {description.version}" + (" without its head" if left else "")
