"""Class activation map methods: each is one small class with one function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any, ClassVar

import tensorflow as tf

from worker.errors import XraycamError


class MethodInput(Enum):
    """What a method needs beside the activations of the layer."""

    GRADIENTS = "gradients of the score"
    NOTHING = "nothing"
    MASKED_SCORES = "scores of the image masked by each channel"


class Method(ABC):
    """How activations, and what a layer's channels do to the score, become a map.

    Every image of the batch is treated alone. The explainer applies ReLU and scales by the image's maximum.
    """

    name: ClassVar[str]
    needs: ClassVar[MethodInput] = MethodInput.GRADIENTS

    @property
    def needs_gradients(self) -> bool:
        return self.needs is MethodInput.GRADIENTS

    @abstractmethod
    def compute_cam(self, activations: Any, evidence: Any) -> Any:
        """The raw map, float32 (B, h, w).

        `activations` A are float32 (B, h, w, C). `evidence` is what the method `needs`: the gradients
        G = d score / d A, float32 (B, h, w, C); None; or float32 (B, C), the score of the image masked by
        each channel, see `ScoreCam`.
        """


class GradCam(Method):
    """Grad-CAM: sum_k mean_ij(G_ijk) A_k, the channels weighted by their mean gradient.

    Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", arXiv 1610.02391, equations 1 and 2.

    >>> GradCam().compute_cam(tf.ones((1, 2, 2, 3)), tf.ones((1, 2, 2, 3))).numpy().tolist()
    [[[3.0, 3.0], [3.0, 3.0]]]
    """

    name = "gradcam"

    def compute_cam(self, activations: Any, evidence: Any) -> Any:
        return _weighted(activations, tf.reduce_mean(evidence, axis=(1, 2)))


class GradCamPlusPlus(Method):
    """Grad-CAM++: sum_k w_k A_k with w_k = sum_ij alpha_ijk ReLU(G_ijk) and
    alpha = G^2 / (2 G^2 + (sum_ab A_abk) G^3), which is 1 / (2 + (sum_ab A_abk) G); 0 where G is 0.

    Chattopadhay et al. 2018, "Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks",
    arXiv 1710.11063, equations 10 and 19 (the class score through an exponential).
    """

    name = "gradcam++"

    def compute_cam(self, activations: Any, evidence: Any) -> Any:
        total = tf.reduce_sum(activations, axis=(1, 2), keepdims=True)
        # Only positive gradients count in w, and for them G^2 cancels out, which would underflow.
        alpha = tf.math.divide_no_nan(1.0, 2.0 + total * evidence)
        return _weighted(activations, tf.reduce_sum(alpha * tf.nn.relu(evidence), axis=(1, 2)))


class HiResCam(Method):
    """HiResCAM: sum_k G_k * A_k, each place weighted by its own gradient.

    Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
    neural networks", arXiv 2011.08891, equation 3.
    """

    name = "hirescam"

    def compute_cam(self, activations: Any, evidence: Any) -> Any:
        return tf.reduce_sum(evidence * activations, axis=-1)


class LayerCam(Method):
    """LayerCAM: sum_k ReLU(G_k) * A_k, only what raises the score.

    Jiang et al. 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE
    Transactions on Image Processing 30, equations 5 to 7.
    """

    name = "layercam"

    def compute_cam(self, activations: Any, evidence: Any) -> Any:
        return tf.reduce_sum(tf.nn.relu(evidence) * activations, axis=-1)


class XGradCam(Method):
    """XGrad-CAM: sum_k w_k A_k with w_k = sum_ij G_ijk A_ijk / sum_ij A_ijk; 0 where the latter is 0.

    Fu et al. 2020, "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs",
    arXiv 2008.02312, equation 8.
    """

    name = "xgradcam"

    def compute_cam(self, activations: Any, evidence: Any) -> Any:
        total = tf.reduce_sum(activations, axis=(1, 2))
        weights = tf.math.divide_no_nan(tf.reduce_sum(evidence * activations, axis=(1, 2)), total)
        return _weighted(activations, weights)


class EigenCam(Method):
    """Eigen-CAM: the activations projected on their first right singular vector v, sum_k v_k A_k, whatever
    the class.

    Muhammad and Yeasin 2020, "Eigen-CAM: Class Activation Map using Principal Components",
    arXiv 2008.00299, equations 3 and 4. Nothing is subtracted first. A singular vector has no sign of its
    own: it is turned so that the map's sum is not negative.
    """

    name = "eigencam"
    needs = MethodInput.NOTHING

    def compute_cam(self, activations: Any, evidence: Any) -> Any:
        height, width, channels = activations.shape[1:]
        flat = tf.reshape(activations, (-1, height * width, channels))
        # The smaller of the two products has the same largest eigenvalue, and A v = sigma u.
        if height * width <= channels:
            values, vectors = tf.linalg.eigh(tf.matmul(flat, flat, transpose_b=True))
            projected = tf.sqrt(tf.maximum(values[:, -1:], 0.0)) * vectors[..., -1]
        else:
            _, vectors = tf.linalg.eigh(tf.matmul(flat, flat, transpose_a=True))
            projected = tf.squeeze(tf.matmul(flat, vectors[..., -1:]), -1)
        sign = tf.where(tf.reduce_sum(projected, axis=1, keepdims=True) < 0, -1.0, 1.0)
        return tf.reshape(sign * projected, (-1, height, width))


class ScoreCam(Method):
    """Score-CAM: sum_k w_k A_k with w = softmax over k of the score of the image masked by A_k.

    Wang et al. 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks",
    arXiv 1910.01279, equations 2 to 5. A mask is A_k upsampled to the image and scaled to 0..1 by its own
    least and greatest value. No gradients; as many forward passes as the layer has channels.
    """

    name = "scorecam"
    needs = MethodInput.MASKED_SCORES

    def compute_cam(self, activations: Any, evidence: Any) -> Any:
        return _weighted(activations, tf.nn.softmax(evidence))


def _weighted(activations: Any, weights: Any) -> Any:
    return tf.einsum("bhwc,bc->bhw", activations, weights)


METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (GradCam, GradCamPlusPlus, HiResCam, LayerCam, XGradCam, EigenCam, ScoreCam)
}


def require_method(name: str) -> Method:
    """A new instance of the method called `name`. Raises XraycamError with the known names."""
    if name not in METHODS:
        raise XraycamError(f"there is no method {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name]()
