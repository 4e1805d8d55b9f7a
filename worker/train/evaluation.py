"""A network on labelled images: its scores, what they amount to, and pictures of that."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from worker.explain.forward import scale
from worker.images.preprocess import Pixels, preprocess
from worker.model.metadata import Preprocessing
from worker.train.dataset import LabelledDataset
from worker.train.metrics import Metrics, compute_metrics
from worker.train.plots import plot_confusion_matrix, plot_reliability, plot_roc, plot_worst_mistakes

BATCH = 32


def predict_logits(
    network: Any,
    preprocessing: Preprocessing,
    dataset: LabelledDataset,
    indices: Sequence[int] | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Any:
    """Scores before the softmax, float32 (N, classes), of all images of `dataset` or of those at `indices`.

    `progress` is told how many images are done. Raises ImageError for a file that has become unreadable.
    """
    chosen = range(len(dataset)) if indices is None else indices

    def prepared(index: int) -> Pixels:
        return preprocess(dataset.radiograph(index), preprocessing)

    def forward(pixels: Any) -> Any:
        return network(scale(pixels, preprocessing), training=False)

    side = preprocessing.size
    predict = tf.function(forward, input_signature=[tf.TensorSpec((None, side, side), tf.uint8)])
    parts = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            parts.append(predict(np.stack(list(pool.map(prepared, part)))).numpy())
            progress(start + len(part))
    return np.concatenate(parts)


@dataclass(frozen=True)
class EvaluationResult:
    """`scores` float32 (N, classes), before the softmax, are those of the images at `indices`."""

    dataset: LabelledDataset
    indices: Sequence[int]
    scores: Any
    metrics: Metrics

    @property
    def figures(self) -> dict[str, Any]:
        """The metrics in JSON's types; what is not a finite number is null."""
        plain: dict[str, Any] = json.loads(self.metrics.model_dump_json())
        return plain

    @property
    def skipped(self) -> list[dict[str, str]]:
        """The files that were not used, and why, in JSON's types."""
        return [
            {"file": str(item.file), "reason": item.reason, "message": item.message}
            for item in self.dataset.skipped
        ]

    def draw(self, folder: Path, prefix: str = "") -> None:
        """Write ROC, confusion matrix, reliability and worst mistakes as PNG files into `folder`."""
        labels = np.array(self.dataset.labels)[list(self.indices)]
        plot_roc(labels, self.scores, self.dataset.classes, folder / f"{prefix}roc.png")
        plot_confusion_matrix(self.metrics, folder / f"{prefix}confusion.png")
        plot_reliability(self.metrics, folder / f"{prefix}reliability.png")
        plot_worst_mistakes(self.dataset, self.indices, self.scores, folder / f"{prefix}worst_mistakes.png")


def measured(
    dataset: LabelledDataset, indices: Sequence[int], scores: Any, temperature: float | None = None
) -> EvaluationResult:
    """Measure `scores` of the images at `indices`; `temperature` as for `measure`."""
    labels = np.array(dataset.labels)[list(indices)]
    return EvaluationResult(
        dataset, indices, scores, compute_metrics(labels, scores, dataset.classes, temperature=temperature)
    )
