"""Running a Keras network layer by layer, for inference, so that one can stop at any of its layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from worker.errors import ModelError
from worker.model.metadata import ModelMetadata, Preprocessing


def scale(batch: Any, preprocessing: Preprocessing) -> Any:
    """Gray (B, size, size) in 0..255, uint8 or float32, as the network's input: float32 (B, size, size, 3).

    `unit` gives 0..1, `symmetric` -1..1, `pixels` 0..255. `imagenet` is (x / 255 - mean) / standard deviation
    and `imagenet-bgr` x - mean in the order blue, green, red, as `keras.applications.imagenet_utils` has them
    in its modes `torch` and `caffe`. Usable inside `tf.function` and `tf.data`.
    """
    gray = tf.cast(batch, tf.float32)
    if preprocessing.scale in ("unit", "imagenet"):
        gray = gray / 255.0
    elif preprocessing.scale == "symmetric":
        gray = gray / 127.5 - 1.0
    channels = tf.repeat(gray[..., tf.newaxis], 3, axis=-1)
    if preprocessing.scale == "imagenet":
        return (channels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return channels - [103.939, 116.779, 123.68] if preprocessing.scale == "imagenet-bgr" else channels


def probabilities_of(scores: Any, metadata: ModelMetadata) -> Any:
    """Calibrated probabilities, float32 (B, K), of the network's scores (B, K): over the classes of a softmax
    model they sum to 1; each finding of a sigmoid model has its own."""
    scaled = scores / metadata.temperature
    return tf.nn.softmax(scaled) if metadata.output == "softmax" else tf.sigmoid(scaled)


Values = dict[int, Any]


@dataclass(frozen=True)
class Step:
    """One call. `inputs` and `output` are keys into the values computed so far; `name` is the layer whose
    output it puts out."""

    name: str
    inputs: tuple[int, ...]
    output: int
    call: Callable[..., Any]

    def run(self, values: Values) -> Any:
        """Compute this step's tensor, add it to `values` and return it."""
        result = self.call(*(values[key] for key in self.inputs))
        values[self.output] = result
        return result


def inference_steps(network: Any, keep: Collection[str]) -> list[Step]:
    """The calls, in order, that take the network's one input to its one output.

    Batch norms behind a convolution are folded into its kernel, which TensorFlow does not do by itself for
    Keras layers and which makes MobileNetV2 twice as fast on a CPU; the layers named in `keep` put
    out their own tensor. Weights are read when the steps run. Raises ModelError for a network with
    shared layers or several inputs.
    """
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ModelError("a network with one input and one output is needed")
    layers = _in_order(network)
    followers: dict[int, list[Any]] = {}
    for layer in layers:
        for key in _inputs(layer):
            followers.setdefault(key, []).append(layer)
    steps: list[Step] = []
    folded: set[str] = set()
    for layer in layers:
        if layer.name in folded:
            continue
        after = followers.get(id(layer.output), [])
        if len(after) == 1 and layer.name not in keep and _can_fold(layer, after[0]):
            norm = after[0]
            folded.add(norm.name)
            steps.append(Step(norm.name, _inputs(layer), id(norm.output), _folded(layer, norm)))
        else:
            steps.append(Step(layer.name, _inputs(layer), id(layer.output), _plain(layer)))
    return steps


def _in_order(network: Any) -> list[Any]:
    # Operations: some networks add tensors without a layer for it.
    waiting = [layer for layer in network.operations if not isinstance(layer, keras.layers.InputLayer)]
    known = {id(network.inputs[0])}
    ordered = []
    while waiting:
        ready = [layer for layer in waiting if known.issuperset(_inputs(layer))]
        if not ready:
            raise ModelError(f"layer {waiting[0].name} is fed by nothing inside the network")
        # One at a time and in the order of the network keeps few tensors alive.
        ordered.append(ready[0])
        known.add(id(ready[0].output))
        waiting.remove(ready[0])
    return ordered


def _inputs(layer: Any) -> tuple[int, ...]:
    try:
        tensors = layer.input
    except (AttributeError, ValueError) as error:
        raise ModelError(f"layer {layer.name} is used more than once in the network") from error
    return tuple(id(tensor) for tensor in (tensors if isinstance(tensors, list) else [tensors]))


def _plain(layer: Any) -> Callable[..., Any]:
    if not isinstance(layer, keras.layers.Layer):
        return layer  # type: ignore[no-any-return]  # an operation, which is called as a function
    options = {"training": False} if "training" in inspect.signature(layer.call).parameters else {}

    def call(*tensors: Any) -> Any:
        return layer(tensors[0] if len(tensors) == 1 else list(tensors), **options)

    return call


def _can_fold(layer: Any, norm: Any) -> bool:
    return (
        type(layer) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
        and isinstance(norm, keras.layers.BatchNormalization)
        and layer.data_format == "channels_last"
        and layer.activation is keras.activations.linear
        and getattr(layer, "groups", 1) == 1
        and getattr(layer, "depth_multiplier", 1) == 1
        and tuple(layer.dilation_rate) == (1, 1)
        and norm.axis in (-1, 3)
        and norm.center
        and norm.scale
    )


def _folded(layer: Any, norm: Any) -> Callable[..., Any]:
    """gamma (k*x + b - mean) / sqrt(variance + epsilon) + beta as one convolution with a bias."""
    padding = layer.padding.upper()
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)

    def call(tensor: Any) -> Any:
        factor = norm.gamma.value * tf.math.rsqrt(norm.moving_variance.value + norm.epsilon)
        mean = norm.moving_mean.value - layer.bias.value if layer.use_bias else norm.moving_mean.value
        bias = norm.beta.value - mean * factor
        kernel = layer.kernel.value
        if depthwise:
            kernel = kernel * factor[:, tf.newaxis]
            result = tf.nn.depthwise_conv2d(tensor, kernel, (1, *layer.strides, 1), padding)
        else:
            result = tf.nn.conv2d(tensor, kernel * factor, layer.strides, padding)
        return tf.nn.bias_add(result, bias)

    return call
