"""A network in two parts: the front, which keeps its weights, and the tail, which learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from worker.train.recipe import RecipeError

HEAD = ("head_", "score", "region_")


@dataclass(frozen=True)
class Cut:
    """Models that share the layers of one network. `tail` and `pooling` take what `front` puts out, or the
    network's input where there is no front; `tail` gives scores, `pooling` the pooled features before the
    head, `learning` a list: the scores, then for each region layer the logits (B, h, w, 1) of a marked area,
    by a convolution of one pixel that only serves the training."""

    front: Any | None
    tail: Any
    pooling: Any
    learning: Any


def cut_network(network: Any, frozen_through: str | None, region_layers: tuple[str, ...] = ()) -> Cut:
    """Cut behind the layer `frozen_through`; None: all of the network learns.

    Raises RecipeError if there is no such layer, or if a connection leads around it.
    """
    pooled = network.get_layer("head_pool").output
    outputs = [network.output, *(_region_logits(network, name) for name in region_layers)]
    if frozen_through is None:
        start = network.input
        return Cut(None, network, keras.Model(start, pooled), keras.Model(start, outputs))
    try:
        middle = network.get_layer(frozen_through).output
        return Cut(
            front=keras.Model(network.input, middle),
            tail=keras.Model(middle, network.output),
            pooling=keras.Model(middle, pooled),
            learning=keras.Model(middle, outputs),
        )
    except ValueError as error:
        raise RecipeError(
            f"frozen_through is {frozen_through!r}; it must be the end of a block, "
            "such as block_9_add or block_12_add"
        ) from error


def _region_logits(network: Any, name: str) -> Any:
    try:
        values = network.get_layer(name).output
    except ValueError as error:
        raise RecipeError(f"region_layers has {name!r}, which the network has not") from error
    start = keras.initializers.Constant(-3.0)  # marked areas are small
    return keras.layers.Conv2D(
        1, 1, kernel_initializer="zeros", bias_initializer=start, name=f"region_{name}"
    )(values)
