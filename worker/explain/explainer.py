"""Prediction and heatmaps of a batch in one compiled pass."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from worker.errors import ModelError
from worker.explain.cam import Method, MethodInput, require_method
from worker.explain.compiled_pass import KeptPass, keep
from worker.explain.forward import Step, Values, inference_steps, probabilities_of, scale
from worker.explain.names import AUTO
from worker.explain.options import ARGMAX_TARGET, Explanation, Indices, Panel
from worker.images.preprocess import Pixels
from worker.input_check.check import InputCheck
from worker.input_check.features import pool
from worker.model.metadata import ModelMetadata, Preprocessing

MEMORY = 400_000_000

# A layer's input and output are held at once, and libraries take as much again to work in.
_TENSORS_AT_ONCE = 4


class ScoreCamForward:
    """A network made ready to score masked copies of an image. Not for use by several threads at once."""

    def __init__(self, network: Any, preprocessing: Preprocessing, memory: int = MEMORY) -> None:
        """`memory` (bytes) bounds what one chunk of copies takes, but for a chunk of one."""
        self._preprocessing = preprocessing
        largest = max(math.prod(layer.output.shape[1:]) for layer in network.operations)
        self.chunk = int(max(1, min(64, memory // (4 * largest * _TENSORS_AT_ONCE))))
        steps = inference_steps(network, keep=())
        self._source, self._sink = id(network.inputs[0]), id(network.outputs[0])
        self._compiled = tf.function(self._score, autograph=False, reduce_retracing=True)
        self._steps: list[Step] = steps

    def __call__(self, image: Pixels, activations: Any) -> Any:
        """Scores float32 (C, K) of `image`, uint8 (size, size), masked by each of `activations` (h, w, C).

        Every chunk has the same size, filled up at the end, so that a score does not depend on where in
        the layer its channel comes.
        """
        masks = np.ascontiguousarray(np.moveaxis(np.asarray(activations), -1, 0))
        count = len(masks)
        masks = np.pad(masks, ((0, -count % self.chunk), (0, 0), (0, 0)))
        picture = tf.constant(image[np.newaxis])
        parts = [
            self._compiled(picture, tf.constant(masks[start : start + self.chunk])).numpy()
            for start in range(0, len(masks), self.chunk)
        ]
        return np.concatenate(parts)[:count]

    def _score(self, image: Any, masks: Any) -> Any:
        side = self._preprocessing.size
        large = tf.image.resize(masks[..., tf.newaxis], (side, side))
        least = tf.reduce_min(large, axis=(1, 2), keepdims=True)
        greatest = tf.reduce_max(large, axis=(1, 2), keepdims=True)
        shares = tf.math.divide_no_nan(large - least, greatest - least)
        values: Values = {self._source: scale(image, self._preprocessing) * shares}
        for step in self._steps:
            step.run(values)
        return values[self._sink]


# Batches are filled up to a multiple of this. Libraries choose other kernels for small batches, whose
# rounding differs; where that tips a ReLU from one side to the other, a heatmap moves by 1e-4 and more.
BLOCK = 16


class Explainer:
    """A network made ready to explain batches at given layers by given methods.

    It owns the compiled functions, which therefore live exactly as long as this model version. Layers and
    methods share one forward and one backward pass; only Score-CAM needs passes of its own. Not for use by
    several threads at once.
    """

    # Images that are best explained at once, where that was measured; None: as many as the caller likes.
    batch_size: int | None = None

    def __init__(
        self,
        metadata: ModelMetadata,
        network: Any,
        layers: Sequence[str] = (),
        method: Method | str | Sequence[Method | str] = (),
        *,
        every_class: bool = False,
        check: InputCheck | None = None,
        kept: Callable[[tuple[str, ...]], KeptPass | None] | None = None,
    ) -> None:
        """`network`: a `keras.Model`, or a function that gives one where it is needed. `layers` and `method`
        by name, one or several; none, or 'auto': the model's defaults.
        `every_class`: a map of each class instead of the target's. `check`: that of the version, if any.
        `kept`: gives the pass compiled earlier for panels of these names, if any.

        Raises ModelError for an unknown layer, with near names, and XraycamError for an unknown method."""
        names = [metadata.default_layer if name == AUTO else name for name in layers or (AUTO,)]
        given = [method] if isinstance(method, Method | str) else list(method) or [AUTO]
        known = [metadata.default_method if one == AUTO else one for one in given]
        found = [require_method(one) if isinstance(one, str) else one for one in known]
        self.metadata = metadata
        self.layers = tuple(metadata.require_layer(name).name for name in dict.fromkeys(names))
        self.methods = tuple({one.name: one for one in found}.values())
        self.every_class = every_class
        self.panels = _panels(metadata, self.layers, self.methods, every_class)
        self.check = check
        by_masks = [panel for panel in self.panels if panel.method.needs is MethodInput.MASKED_SCORES]
        self._compiled: Any = None
        if kept is not None and not by_masks:
            self._compiled = kept(tuple(panel.name for panel in self.panels))
        self.is_kept = self._compiled is not None
        self._score_cam_forward = None
        if not self.is_kept:
            network = network() if inspect.isfunction(network) else network
            self._compiled = _compile(metadata, network, self.panels, None if check is None else check.layer)
            if by_masks:
                self._score_cam_forward = ScoreCamForward(network, metadata.preprocessing)

    @property
    def needs_per_channel_passes(self) -> bool:
        """Whether one image alone takes seconds, so that images are better taken one by one."""
        return self._score_cam_forward is not None

    def explain(self, batch: Pixels, targets: Indices | Sequence[int] | None = None) -> Explanation:
        """Explain `batch`, uint8 (B, size, size) from `preprocess`.

        `targets` (B,) are class indices, -1 meaning the class with the highest score; None: -1 for all.
        Raises ModelError if the network puts out values that are not numbers.
        """
        count = len(batch)
        wanted = np.full(count, ARGMAX_TARGET) if targets is None else np.asarray(targets)
        filling = -count % BLOCK
        scores, probabilities, target_index, maps, activations, features = self._compiled(
            np.pad(np.asarray(batch, np.uint8), ((0, filling), (0, 0), (0, 0))),
            np.pad(wanted.astype(np.int32), (0, filling)),
        )
        classes = target_index.numpy()[:count]
        if self._score_cam_forward is not None:
            maps = {**maps, **self._score_cam(batch, classes, activations)}
        explanation = Explanation(
            probabilities=probabilities.numpy()[:count],
            scores=scores.numpy()[:count],
            target_index=classes,
            heatmaps={panel.name: maps[panel.name][0].numpy()[:count] for panel in self.panels},
            maxima={panel.name: maps[panel.name][1].numpy()[:count] for panel in self.panels},
            odd=None if self.check is None else self.check.words(features.numpy()[:count]),
        )
        sums = [explanation.scores.sum(), *(maximum.sum() for maximum in explanation.maxima.values())]
        if not np.isfinite(sums).all():
            raise ModelError(
                f"model {self.metadata.version} puts out values that are not numbers; use another version"
            )
        return explanation

    def warm_up(self, batch_size: int = 1) -> None:
        """Compile now rather than at the first batch."""
        side = self.metadata.preprocessing.size
        self.explain(np.zeros((1 if self.needs_per_channel_passes else batch_size, side, side), np.uint8))

    def keep(self, file: Path, network: Any) -> bool:
        """Keep the compiled pass in `file` for the next process; whether it could be. Not for Score-CAM."""
        if self._score_cam_forward is not None:
            return False
        return keep(file, self._compiled, network, [panel.name for panel in self.panels])

    def _score_cam(self, batch: Pixels, classes: Indices, activations: dict[str, Any]) -> dict[str, Any]:
        """Heatmaps and maxima of the panels that need the scores of masked images, by panel name."""
        assert self._score_cam_forward is not None
        found = {}
        for layer, values in activations.items():
            maps = values[: len(batch)]
            # (B, C, K): every class at once, whichever is explained.
            scores = np.stack(
                [self._score_cam_forward(image, one) for image, one in zip(batch, maps, strict=True)]
            )
            for panel in self.panels:
                if panel.layer != layer or panel.method.needs is not MethodInput.MASKED_SCORES:
                    continue
                of = classes if panel.class_index is None else np.full(len(batch), panel.class_index)
                evidence = np.take_along_axis(scores, of[:, np.newaxis, np.newaxis], axis=2)[..., 0]
                found[panel.name] = _scaled(panel.method.compute_cam(maps, tf.constant(evidence)))
        return found


def _panels(
    metadata: ModelMetadata, layers: Sequence[str], methods: Sequence[Method], every_class: bool
) -> tuple[Panel, ...]:
    every: list[int | None] = [*range(len(metadata.classes))]
    panels = []
    for layer in layers:
        for method in methods:
            # A map that does not depend on the class is drawn once.
            for index in every if every_class and method.needs is not MethodInput.NOTHING else [None]:
                of = () if index is None else (metadata.classes[index],)
                name = " ".join((layer, *((method.name,) if len(methods) > 1 else ()), *of))
                panels.append(Panel(layer, method, index, name, " ".join((layer, method.name, *of))))
    return tuple(panels)


def _compile(
    metadata: ModelMetadata, network: Any, panels: tuple[Panel, ...], checked_layer: str | None
) -> Any:
    """The function (images, targets) -> (scores, probabilities, explained, maps, activations, features).

    `maps` holds (heatmaps, maxima) by panel, `activations` by layer what Score-CAM needs, `features` those
    of the version's check, (B, 0) where it has none.
    """
    preprocessing = metadata.preprocessing
    layers = tuple(dict.fromkeys(panel.layer for panel in panels))
    kept = layers if checked_layer is None else (*layers, checked_layer)
    steps = inference_steps(network, keep=kept)
    checked = next((step.output for step in steps if step.name == checked_layer), None)
    source, sink = id(network.inputs[0]), id(network.outputs[0])
    first = min(index for index, step in enumerate(steps) if step.name in layers)
    front, tail = steps[:first], steps[first:]
    side = preprocessing.size
    of_classes = dict.fromkeys(panel.class_index for panel in panels if panel.method.needs_gradients)

    def explain(images: Any, targets: Any) -> Any:
        values: Values = {source: scale(images, preprocessing)}
        for step in front:
            step.run(values)
        with tf.GradientTape(persistent=len(of_classes) > 1, watch_accessed_variables=False) as tape:
            activations = _forward_with_tape(tail, values, layers, tape)
            scores = values[sink]
            highest = tf.argmax(scores, axis=-1, output_type=tf.int32)
            target_index = tf.where(targets < 0, highest, targets)
            # Images do not meet in the network, so the gradient of the sum is each image's own gradient.
            totals = {
                index: tf.reduce_sum(
                    tf.gather(scores, target_index, batch_dims=1) if index is None else scores[:, index]
                )
                for index in of_classes
            }
        gradients = {
            index: tape.gradient(total, activations, unconnected_gradients="zero")
            for index, total in totals.items()
        }
        maps, needed = {}, {}
        for panel in panels:
            activation = activations[panel.layer]
            if panel.method.needs is MethodInput.MASKED_SCORES:
                needed[panel.layer] = activation
                continue
            evidence = gradients[panel.class_index][panel.layer] if panel.method.needs_gradients else None
            maps[panel.name] = _scaled(panel.method.compute_cam(activation, evidence))
        features = tf.zeros((tf.shape(images)[0], 0)) if checked is None else pool(values[checked])
        return scores, probabilities_of(scores, metadata), target_index, maps, needed, features

    # Not with XLA (jit_compile), which makes MobileNetV2 3 to 10 times slower on a CPU.
    return tf.function(
        explain,
        autograph=False,
        input_signature=[
            tf.TensorSpec((None, side, side), tf.uint8, name="images"),
            tf.TensorSpec((None,), tf.int32, name="targets"),
        ],
    )


def _scaled(raw: Any) -> tuple[Any, Any]:
    """Positive part of raw maps (B, h, w), each divided by its maximum, and the maxima (B,)."""
    positive = tf.nn.relu(raw)
    maxima = tf.reduce_max(positive, axis=(1, 2))
    return tf.math.divide_no_nan(positive, maxima[:, tf.newaxis, tf.newaxis]), maxima


def _forward_with_tape(
    tail: list[Step], values: Values, layers: tuple[str, ...], tape: Any
) -> dict[str, Any]:
    """Run `tail` under `tape`; the activations of `layers`, in their order."""
    found = {}
    for step in tail:
        # The first layer's own call needs no gradient: what the tape does not watch it does not record.
        result = step.run(values)
        if step.name in layers:
            tape.watch(result)
            found[step.name] = result
    return {name: found[name] for name in layers}
