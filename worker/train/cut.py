"""A network in two parts: the front, which keeps its weights, and the tail, which learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from worker.train.recipe import RecipeError

HEAD = ("head_", "score")


@dataclass(frozen=True)
class Cut:
    """Models that share the layers of one network. `tail` and `pooling` take what `front` puts out, or the
    network's input where there is no front; `tail` gives scores, `pooling` the pooled features before the
    head."""

    front: Any | None
    tail: Any
    pooling: Any


def cut_network(network: Any, frozen_through: str | None) -> Cut:
    """Cut behind the layer `frozen_through`; None: all of the network learns.

    Raises RecipeError if there is no such layer, or if a connection leads around it.
    """
    pooled = network.get_layer("head_pool").output
    if frozen_through is None:
        return Cut(None, network, keras.Model(network.input, pooled))
    try:
        middle = network.get_layer(frozen_through).output
        return Cut(
            front=keras.Model(network.input, middle),
            tail=keras.Model(middle, network.output),
            pooling=keras.Model(middle, pooled),
        )
    except ValueError as error:
        raise RecipeError(
            f"frozen_through is {frozen_through!r}; it must be the end of a block, "
            "such as block_9_add or block_12_add"
        ) from error
