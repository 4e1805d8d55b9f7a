"""What a training and its figures look like: curves, matrices, images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from sklearn.metrics import roc_curve

from worker.images.preprocess import preprocess
from worker.model.metadata import Preprocessing
from worker.model.score_reference import OperatingPoint
from worker.train.dataset import LabelledDataset
from worker.train.metrics import Metrics, leading_index, probabilities_from
from worker.train.screening import Screening

mpl.use("Agg")

_CAPTION = 16  # pixels below each image of a grid


def plot_learning_curves(history: Sequence[dict[str, Any]], file: Path) -> None:
    """Loss and AUC by epoch, from epochs as stored (see `worker.train.training.Epoch`)."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    losses, aucs = figure.subplots(1, 2)
    epochs = [epoch["epoch"] for epoch in history]
    losses.plot(epochs, [epoch["loss"] for epoch in history], label="training, with penalties")
    losses.plot(epochs, [epoch["val_loss"] for epoch in history], label="validation")
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend()
    aucs.plot(epochs, [epoch["val_auc"] for epoch in history], label="AUC, validation")
    aucs.plot(epochs, [epoch["val_accuracy"] for epoch in history], label="accuracy, validation")
    aucs.set(xlabel="epoch", ylim=(0.4, 1.0))
    aucs.legend(loc="lower right")
    for number, epoch in enumerate(history[1:], 1):
        if epoch["stage"] != history[number - 1]["stage"]:
            losses.axvline(epoch["epoch"] - 0.5, color="gray", linestyle=":")
            aucs.axvline(epoch["epoch"] - 0.5, color="gray", linestyle=":")
    figure.savefig(file, dpi=120)


def plot_thresholds(rows: Sequence[Screening], point: OperatingPoint, prevalence: float, file: Path) -> None:
    """Rates and predictive values, and people of 1,000, over the threshold, with 95% intervals; `point` and
    the interval of its threshold are marked."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    shares, people = figure.subplots(1, 2)
    thresholds = [row.threshold for row in rows]
    for name, label in (
        ("sensitivity", "sensitivity"),
        ("specificity", "specificity"),
        ("ppv", "PPV"),
        ("npv", "NPV"),
    ):
        values = [np.nan if getattr(row, name) is None else getattr(row, name) for row in rows]
        (line,) = shares.plot(thresholds, values, label=label)
        limits = np.array([getattr(row, f"{name}_interval") or (np.nan, np.nan) for row in rows]).T
        shares.fill_between(thresholds, *limits, color=line.get_color(), alpha=0.12, linewidth=0)
    shares.set(xlabel="threshold on the score", ylim=(0, 1.02))
    shares.legend(loc="lower center")
    for name in ("referred", "missed"):
        (line,) = people.plot(thresholds, [getattr(row, name) for row in rows], label=name)
        limits = np.array([getattr(row, f"{name}_interval") for row in rows]).T
        people.fill_between(thresholds, *limits, color=line.get_color(), alpha=0.12, linewidth=0)
    people.set(xlabel="threshold on the score", ylabel=f"of 1,000 people, prevalence {prevalence:.1%}")
    people.legend()
    for axes in (shares, people):
        axes.axvspan(*point.threshold_interval, color="gray", alpha=0.15)
        axes.axvline(point.threshold, color="black", linestyle=":")
    figure.savefig(file, dpi=120)


def plot_roc(
    labels: Any,
    scores: Any,
    classes: Sequence[str],
    file: Path,
    output: str = "softmax",
    positive_class: str | None = None,
) -> None:
    """The ROC curve of the positive one of two classes, by default the second, or of each class against the
    rest; with `labels` (N, classes), of each finding on the images on which it is known. `output`: what makes
    probabilities of `scores` of classes."""
    labels = np.asarray(labels)
    of_findings = labels.ndim == 2
    probabilities = probabilities_from(scores, "sigmoid" if of_findings else output)
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    lead = None if of_findings else leading_index(classes, positive_class)
    for number in range(len(classes)) if lead is None else [lead]:
        known = ~np.isnan(labels[:, number]) if of_findings else np.ones(len(labels), bool)
        positive = labels[known, number] == 1 if of_findings else labels == number
        if positive.all() or not positive.any():
            continue
        false_alarms, hits, _ = roc_curve(positive, probabilities[known, number])
        axes.plot(false_alarms, hits, label=classes[number])
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", aspect="equal")
    axes.legend(loc="lower right")
    figure.savefig(file, dpi=120)


def plot_confusion_matrix(metrics: Metrics, file: Path) -> None:
    """Counts of true class by predicted class."""
    counts = np.array(metrics.confusion)
    side = 2.5 + 0.6 * len(metrics.classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    ticks = range(len(metrics.classes))
    axes.set_xticks(ticks, metrics.classes, rotation=30)
    axes.set_yticks(ticks, metrics.classes)
    axes.set(xlabel="predicted", ylabel="true")
    figure.savefig(file, dpi=120)


def plot_reliability(metrics: Metrics, file: Path) -> None:
    """Stated against observed probability, the size of a point showing its images."""
    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
    bins = metrics.reliability
    axes.plot([b.predicted for b in bins], [b.observed for b in bins])
    axes.scatter([b.predicted for b in bins], [b.observed for b in bins], s=[4 * b.images for b in bins])
    axes.set(xlabel="stated probability", ylabel="observed share", aspect="equal")
    figure.savefig(file, dpi=120)


def plot_worst_mistakes(
    dataset: LabelledDataset,
    indices: Sequence[int],
    scores: Any,
    file: Path,
    *,
    count: int = 8,
    side: int = 224,
    output: str | None = None,
) -> None:
    """The images whose true class got the least probability, worst first, each with what it was taken for.

    `scores` (N, classes) are those of `indices`. Only mistakes are shown; none gives a strip that says so. Of
    findings, each that is missed or seen wrongly at 0.5 is a mistake.
    """
    probabilities = probabilities_from(scores, output or dataset.output)
    mistakes = _class_mistakes if dataset.findings is None else _finding_mistakes
    cells = []
    for row, said in mistakes(probabilities, dataset.truth(indices), dataset.classes)[:count]:
        radiograph = dataset.radiograph(indices[row])
        cells.append((preprocess(radiograph, Preprocessing(size=side)), said))
    _grid([cells] if cells else [[(np.zeros((side, side), np.uint8), "no mistakes")]]).save(file)


def _class_mistakes(probabilities: Any, true: Any, classes: Sequence[str]) -> list[tuple[int, str]]:
    """Rows and what is said of them, the worst first."""
    taken = probabilities.argmax(1)
    wrong = sorted(np.flatnonzero(taken != true), key=lambda row: float(probabilities[row, true[row]]))
    return [
        (int(row), f"{classes[true[row]]}, not {classes[taken[row]]} ({probabilities[row, taken[row]]:.2f})")
        for row in wrong
    ]


def _finding_mistakes(probabilities: Any, true: Any, classes: Sequence[str]) -> list[tuple[int, str]]:
    """Rows and what is said of them, the worst first."""
    off = np.where(np.isnan(true), 0.0, np.abs(probabilities - true))
    wrong = sorted(np.argwhere(off > 0.5), key=lambda place: -float(off[tuple(place)]))
    return [
        (int(row), f"{classes[n]}{'' if true[row, n] else ' absent'} ({probabilities[row, n]:.2f})")
        for row, n in wrong
    ]


def _grid(rows: list[list[tuple[Any, str]]]) -> Image.Image:
    side = rows[0][0][0].shape[0]
    columns = max(len(row) for row in rows)
    sheet = Image.new("L", (columns * (side + 4), len(rows) * (side + _CAPTION + 4)), 255)
    draw = ImageDraw.Draw(sheet)
    for top, row in enumerate(rows):
        for left, (pixels, caption) in enumerate(row):
            corner = (left * (side + 4) + 2, top * (side + _CAPTION + 4) + 2)
            sheet.paste(Image.fromarray(pixels), corner)
            draw.text((corner[0], corner[1] + side + 1), caption, fill=0)
    return sheet
