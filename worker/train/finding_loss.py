"""Learning findings that do not exclude each other: the loss, its weights; and what weights shift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from worker.model.network import SCORE_LAYER

# A target that nobody knows.
UNKNOWN = -1.0


def finding_weights(truth: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weights (2, K) of images without and with each finding, from `truth` (N, K) of 1, 0 and NaN: both kinds
    count the same together, and their mean is 1, as scikit-learn's `balanced`."""
    there, absent = (truth == 1).sum(axis=0), (truth == 0).sum(axis=0)
    known = there + absent
    weights: NDArray[np.float64] = np.stack([known / (2 * absent), known / (2 * there)])
    return weights


def findings_loss(weights: NDArray[np.float64], label_smoothing: float) -> Callable[[Any, Any], Any]:
    """For each image the mean over K findings of the weighted sigmoid cross-entropy of scores (B, K) against
    targets (B, K) of 1, 0 and UNKNOWN, which counts as no loss. `weights` (2, K), see `finding_weights`."""
    without, with_it = (tf.constant(row, tf.float32) for row in weights)

    def loss(targets: Any, scores: Any) -> Any:
        known = tf.cast(targets >= 0, tf.float32)
        there = tf.maximum(targets, 0.0)
        weight = known * tf.where(there > 0.5, with_it, without)
        smooth = there * (1.0 - label_smoothing) + 0.5 * label_smoothing
        losses = tf.nn.sigmoid_cross_entropy_with_logits(smooth, scores)
        return tf.reduce_mean(weight * losses, axis=-1)

    return loss


def prior_shift(truth: NDArray[Any], classes: int) -> NDArray[np.float32]:
    """What weights have added to the best scores, (K,): log(w1 / w0) to that of a finding with the weights of
    `finding_weights`, `truth` (N, K); log(w) to that of a class with scikit-learn's `balanced` weight w,
    `truth` (N,) class indices, each of which occurs."""
    if truth.ndim == 2:
        without, with_it = finding_weights(truth)
        weights = with_it / without
    else:
        weights = len(truth) / (classes * np.bincount(truth, minlength=classes))
    shift: NDArray[np.float32] = np.log(weights).astype(np.float32)
    return shift


def remove_prior_shift(network: Any, truth: NDArray[Any]) -> None:
    """Take what `prior_shift` says from the biases of the scores.

    Without that, the probability of a rare finding or class would be that among images of which as many have
    it as not (King and Zeng 2001, Political Analysis 9), and a temperature, which moves all probabilities
    towards the same, cannot correct it."""
    bias = network.get_layer(SCORE_LAYER).bias
    bias.assign(bias.numpy() - prior_shift(truth, bias.shape[0]))
