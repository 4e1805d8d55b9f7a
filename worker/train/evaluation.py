"""A network on labelled images: its scores, what they amount to, and pictures of that."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from db.models import Model
from worker.counted_words import counted
from worker.explain.forward import scale
from worker.images.preprocess import Pixels, preprocess
from worker.images.reader import limits_of
from worker.model.doubts import FEW_IMAGES
from worker.model.metadata import METRICS_FILE, ModelMetadata, Preprocessing
from worker.model.network import load_model
from worker.model.store import ModelStore
from worker.processors import usable_processors
from worker.settings import Settings
from worker.train.dataset import DatasetError, LabelledDataset
from worker.train.held_out import trained_on
from worker.train.labels import LabelSource, left_out_lines, load_labels
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
    with ThreadPoolExecutor(usable_processors()) as pool:
        for start in range(0, len(chosen), BATCH):
            part = chosen[start : start + BATCH]
            parts.append(predict(np.stack(list(pool.map(prepared, part)))).numpy())
            progress(start + len(part))
    return np.concatenate(parts)


@dataclass(frozen=True)
class EvaluationResult:
    """`scores` float32 (N, classes), before softmax or sigmoid, the `output`, are those of the images at
    `indices`."""

    dataset: LabelledDataset
    indices: Sequence[int]
    scores: Any
    metrics: Metrics
    output: str

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
        """Write ROC, confusion matrix (not of findings), reliability and worst mistakes as PNG files."""
        labels, classes = self.dataset.truth(self.indices), self.dataset.classes
        calibrated = np.asarray(self.scores) / self.metrics.temperature
        leading = self.metrics.leading
        plot_roc(labels, calibrated, classes, folder / f"{prefix}roc.png", self.output, leading)
        if self.dataset.findings is None:
            plot_confusion_matrix(self.metrics, folder / f"{prefix}confusion.png")
        plot_reliability(self.metrics, folder / f"{prefix}reliability.png")
        worst = folder / f"{prefix}worst_mistakes.png"
        plot_worst_mistakes(self.dataset, self.indices, calibrated, worst, output=self.output)


def measured(
    dataset: LabelledDataset,
    indices: Sequence[int],
    scores: Any,
    temperature: float | None = None,
    output: str | None = None,
    *,
    positive_class: str | None = None,
) -> EvaluationResult:
    """Measure `scores` of the images at `indices`; `temperature` and `positive_class` as for
    `compute_metrics`. `output`: softmax or sigmoid, that of the model; None: softmax of classes, sigmoid of
    findings."""
    labels, kind = dataset.truth(indices), output or dataset.output
    metrics = compute_metrics(
        labels,
        scores,
        dataset.classes,
        temperature=temperature,
        output=kind,
        positive_class=positive_class,
    )
    return EvaluationResult(dataset, indices, scores, metrics, kind)


def evaluate_model(
    settings: Settings,
    model: Model,
    store: ModelStore,
    folder: Path,
    output: Path,
    on_message: Callable[[str], object] = lambda _: None,
    images: Path | None = None,
) -> EvaluationResult:
    """Measure `model` on all images of `folder`, whose sub-folders are named as its classes or findings, or
    which is a CSV file of labels, paths relative to `images`.

    Calibration uses the version's temperature, as runs do. Raises XraycamError.
    """
    metadata, network = load_model(store.fetch(model.version, model.digest))
    on_message(f"reading {folder}")
    dataset = labels_for(metadata, folder, images, settings, on_message)
    for name, number in dataset.counts().items():
        if number < FEW_IMAGES:
            few = counted(number, "image")
            if dataset.findings is not None and not number:
                on_message(f"{name}: no image has it, so that it is not measured")
                continue
            on_message(f"{name}: only {few}; the figures are uncertain, see the intervals")
    total = len(dataset)
    step = max(1, total // 10)
    seen = 0

    def progress(done: int) -> None:
        nonlocal seen
        if done // step > seen // step or done == total:
            on_message(f"{done} of {total} images predicted")
        seen = done

    scores = predict_logits(network, metadata.preprocessing, dataset, progress=progress)
    found = measured(
        dataset,
        range(total),
        scores,
        metadata.temperature,
        metadata.output,
        positive_class=metadata.positive_class,
    )
    content = {
        "model": model.version,
        "dataset": str(folder),
        "digest": dataset.digest,
        "skipped": found.skipped,
        "figures": found.figures,
    }
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (output / METRICS_FILE).write_text(text + "\n", encoding="utf-8")
    found.draw(output)
    return found


def labels_for(
    metadata: ModelMetadata,
    folder: Path,
    images: Path | None,
    settings: Settings,
    on_message: Callable[[str], object],
) -> LabelledDataset:
    """The labelled images of `folder`, a folder or a CSV file, that the version has not seen, in terms of its
    classes; says what is left out. Raises DatasetError."""
    findings = metadata.has_findings
    dataset = load_labels(
        LabelSource(folder, images, findings),
        classes=metadata.classes,
        min_per_class=0 if findings else 1,
        limits=limits_of(settings),
        memory=0,
        samples=True,
    )
    dataset = without_training_images(dataset, metadata, on_message)
    for line in (*left_out_lines(dataset.skipped), *dataset.passed_over):
        on_message(line)
    kept = dataset.first_of_equal()
    if len(kept) < len(dataset):
        on_message(f"warning: {copies_said(len(dataset) - len(kept), len(dataset))}")
    return dataset.subset(kept)


def copies_said(copies: int, images: int) -> str:
    """That `copies` of `images` are left out."""
    return (
        f"{copies} of these {counted(images, 'image')} have the content of others and are not counted again"
    )


def without_training_images(
    dataset: LabelledDataset, metadata: ModelMetadata, on_message: Callable[[str], object]
) -> LabelledDataset:
    """The images that a version was not trained on. Raises DatasetError if a class has none left."""
    known = trained_on(metadata.training, dataset.sha256)
    if known is None:
        on_message(
            f"warning: {metadata.version} does not say which images it was trained on; if these are among "
            "them, the metrics are too good"
        )
        return dataset
    if not any(known):
        return dataset
    kept = [index for index, seen in enumerate(known) if not seen]
    if dataset.findings is None:
        missing = [name for name, count in dataset.counts(kept).items() if not count]
    else:
        missing = [] if kept else list(dataset.classes)
    if missing:
        raise DatasetError(
            f"{metadata.version} was trained on {sum(known)} of these {len(dataset)} images, which leaves "
            f"none of {', '.join(missing)}; measure it on images that it has not seen"
        )
    on_message(
        f"warning: {metadata.version} was trained on {sum(known)} of these {len(dataset)} images; they are "
        "left out"
    )
    return dataset.subset(kept)
