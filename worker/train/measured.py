"""What a network's scores of labelled images amount to: figures for a file, and pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worker.train.dataset import Labelled
from worker.train.evaluate import Metrics, measure
from worker.train.pictures import confusion_picture, reliability_picture, roc_picture, worst_mistakes


@dataclass(frozen=True)
class Measured:
    """`scores` float32 (N, classes), before the softmax, are those of the images at `indices`."""

    dataset: Labelled
    indices: Sequence[int]
    scores: Any
    metrics: Metrics

    @property
    def figures(self) -> dict[str, Any]:
        """The metrics in JSON's types; what is not a finite number is null."""
        plain: dict[str, Any] = json.loads(self.metrics.model_dump_json())
        return plain

    @property
    def left_out(self) -> list[dict[str, str]]:
        """The files that were not used, and why, in JSON's types."""
        return [
            {"file": str(item.file), "reason": item.reason, "message": item.message}
            for item in self.dataset.left_out
        ]

    def draw(self, folder: Path, prefix: str = "") -> None:
        """Write ROC, confusion matrix, reliability and worst mistakes as PNG files into `folder`."""
        labels = np.array(self.dataset.labels)[list(self.indices)]
        roc_picture(labels, self.scores, self.dataset.classes, folder / f"{prefix}roc.png")
        confusion_picture(self.metrics, folder / f"{prefix}confusion.png")
        reliability_picture(self.metrics, folder / f"{prefix}reliability.png")
        worst_mistakes(self.dataset, self.indices, self.scores, folder / f"{prefix}worst_mistakes.png")


def measured(
    dataset: Labelled, indices: Sequence[int], scores: Any, temperature: float | None = None
) -> Measured:
    """Measure `scores` of the images at `indices`; `temperature` as for `measure`."""
    labels = np.array(dataset.labels)[list(indices)]
    return Measured(
        dataset, indices, scores, measure(labels, scores, dataset.classes, temperature=temperature)
    )
