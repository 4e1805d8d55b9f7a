"""Prediction and heatmaps of a batch in one compiled pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from worker.errors import ModelError
from worker.explain.cam import Method, require_method
from worker.explain.layerwise import Step, Values, inference_steps
from worker.explain.preprocess import Pixels
from worker.explain.scaling import scale
from worker.model.description import Description

Floats = np.ndarray[Any, np.dtype[np.float32]]
Indices = np.ndarray[Any, np.dtype[np.int32]]

PREDICTED_CLASS = -1

# Batches are filled up to a multiple of this. Libraries choose other kernels for small batches, whose
# rounding differs; where that tips a ReLU from one side to the other, a heatmap moves by 1e-4 and more.
BLOCK = 16


@dataclass(frozen=True)
class Explanation:
    """What the network says of a batch of B images, of K classes, and where the scores came from.

    `probabilities` (B, K) is the softmax of `scores` (B, K); `explained` (B,) is the class index each
    heatmap is of. `heatmaps` holds by layer name (B, h, w) in 0..1, each image divided by its own maximum;
    `maxima` (B,) those maxima. A maximum of 0 says that the map is blank: it is 0 everywhere.
    """

    probabilities: Floats
    scores: Floats
    explained: Indices
    heatmaps: dict[str, Floats]
    maxima: dict[str, Floats]


class Explainer:
    """A network made ready to explain batches at given layers.

    It owns the one compiled function, which therefore lives exactly as long as this model version. Several
    layers share one forward and one backward pass. Not for use by several threads at once.
    """

    def __init__(
        self,
        description: Description,
        network: Any,
        layers: Sequence[str] = (),
        method: Method | str = "gradcam",
    ) -> None:
        """`layers` by name; none: the model's default layer. Raises ModelError for an unknown layer, with
        near names, and XraycamError for an unknown method."""
        names = tuple(dict.fromkeys(layers)) or (description.default_layer,)
        self.description = description
        self.layers = tuple(description.require_layer(name).name for name in names)
        self.method = require_method(method) if isinstance(method, str) else method
        self._compiled = _compile(description, network, self.layers, self.method)

    def explain(self, batch: Pixels, targets: Indices | Sequence[int] | None = None) -> Explanation:
        """Explain `batch`, uint8 (B, size, size) from `network_input`.

        `targets` (B,) are class indices, -1 meaning the class with the highest score; None: -1 for all.
        Raises ModelError if the network puts out values that are not numbers.
        """
        count = len(batch)
        wanted = np.full(count, PREDICTED_CLASS) if targets is None else np.asarray(targets)
        filling = -count % BLOCK
        scores, probabilities, explained, heatmaps, maxima = self._compiled(
            tf.constant(np.pad(batch, ((0, filling), (0, 0), (0, 0))), tf.uint8),
            tf.constant(np.pad(wanted, (0, filling)), tf.int32),
        )
        explanation = Explanation(
            probabilities=probabilities.numpy()[:count],
            scores=scores.numpy()[:count],
            explained=explained.numpy()[:count],
            heatmaps={name: part.numpy()[:count] for name, part in zip(self.layers, heatmaps, strict=True)},
            maxima={name: part.numpy()[:count] for name, part in zip(self.layers, maxima, strict=True)},
        )
        sums = [explanation.scores.sum(), *(maximum.sum() for maximum in explanation.maxima.values())]
        if not np.isfinite(sums).all():
            raise ModelError(
                f"model {self.description.version} puts out values that are not numbers; use another version"
            )
        return explanation

    def warm_up(self, batch_size: int = 1) -> None:
        """Compile now rather than at the first batch."""
        side = self.description.preprocessing.size
        self.explain(np.zeros((batch_size, side, side), np.uint8))


def _compile(description: Description, network: Any, layers: tuple[str, ...], method: Method) -> Any:
    """The function (images, targets) -> (scores, probabilities, explained, heatmaps, maxima)."""
    preprocessing = description.preprocessing
    steps = inference_steps(network, keep=layers)
    source, sink = id(network.inputs[0]), id(network.outputs[0])
    first = min(index for index, step in enumerate(steps) if step.name in layers)
    front, tail = steps[:first], steps[first:]
    side = preprocessing.size

    def explain(images: Any, targets: Any) -> Any:
        values: Values = {source: scale(images, preprocessing)}
        for step in front:
            step.run(values)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            activations = _run_watched(tail, values, layers, tape)
            scores = values[sink]
            highest = tf.argmax(scores, axis=-1, output_type=tf.int32)
            explained = tf.where(targets < 0, highest, targets)
            # Images do not meet in the network, so the gradient of the sum is each image's own gradient.
            total = tf.reduce_sum(tf.gather(scores, explained, batch_dims=1))
        if method.needs_gradients:
            gradients = tape.gradient(total, activations, unconnected_gradients="zero")
        else:
            gradients = [None] * len(activations)
        maps = [
            tf.nn.relu(method.combine(activation, gradient))
            for activation, gradient in zip(activations, gradients, strict=True)
        ]
        maxima = [tf.reduce_max(raw, axis=(1, 2)) for raw in maps]
        heatmaps = [
            tf.math.divide_no_nan(raw, maximum[:, tf.newaxis, tf.newaxis])
            for raw, maximum in zip(maps, maxima, strict=True)
        ]
        return scores, tf.nn.softmax(scores), explained, heatmaps, maxima

    # Not with XLA (jit_compile), which makes MobileNetV2 3 to 10 times slower on a CPU.
    return tf.function(
        explain,
        autograph=False,
        input_signature=[
            tf.TensorSpec((None, side, side), tf.uint8, name="images"),
            tf.TensorSpec((None,), tf.int32, name="targets"),
        ],
    )


def _run_watched(tail: list[Step], values: Values, layers: tuple[str, ...], tape: Any) -> list[Any]:
    """Run `tail` under `tape`; the activations of `layers`, in their order."""
    found = {}
    for step in tail:
        # The first layer's own call needs no gradient: what the tape does not watch it does not record.
        result = step.run(values)
        if step.name in layers:
            tape.watch(result)
            found[step.name] = result
    return [found[name] for name in layers]
