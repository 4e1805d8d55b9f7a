"""Class activation map methods: each is one small class with one function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import tensorflow as tf

from worker.errors import XraycamError


class Method(ABC):
    """How activations and gradients of a layer become a map.

    Every image of the batch is treated alone. The explainer applies ReLU and scales by the image's maximum.
    """

    name: ClassVar[str]
    needs_gradients: ClassVar[bool] = True

    @abstractmethod
    def combine(self, activations: Any, gradients: Any) -> Any:
        """The raw map, float32 (B, h, w).

        `activations` A and `gradients` G = d score / d A are float32 (B, h, w, C); G is None for a method
        that needs none.
        """


class GradCam(Method):
    """Grad-CAM: sum_k mean_ij(G_ijk) A_k, the channels weighted by their mean gradient.

    Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", arXiv 1610.02391, equations 1 and 2.

    >>> GradCam().combine(tf.ones((1, 2, 2, 3)), tf.ones((1, 2, 2, 3))).numpy().tolist()
    [[[3.0, 3.0], [3.0, 3.0]]]
    """

    name = "gradcam"

    def combine(self, activations: Any, gradients: Any) -> Any:
        weights = tf.reduce_mean(gradients, axis=(1, 2))
        return tf.einsum("bhwc,bc->bhw", activations, weights)


METHODS: dict[str, type[Method]] = {method.name: method for method in (GradCam,)}


def require_method(name: str) -> Method:
    """A new instance of the method called `name`. Raises XraycamError with the known names."""
    if name not in METHODS:
        raise XraycamError(f"there is no method {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name]()
