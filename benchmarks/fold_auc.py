"""AUC of cross-validated networks with bootstrap intervals, and differences between two recipes.

    python -m benchmarks.fold_auc default.json size-160.json

prints, for files that `benchmarks.cross_hospital` wrote, by how much the second's AUC is above the first's,
paired by image, for each row and column, and in the mean of those trained on one hospital.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from worker.train.findings_metrics import rank_auc

Draws = dict[str, list[NDArray[np.int64]]]
Cell = Mapping[str, Any]


def mean_auc(cell: Cell, counts: NDArray[np.int64] | None = None, scores: str = "margins") -> float:
    """Mean over folds of the AUC on the images that the fold's network judged.

    `cell`: `labels` of all images of a hospital, 0 or 1, and `folds`, each with `indices` into these and, as
    long, `margins` and `mirrored_margins`: logit of class 1 less that of class 0, also of the mirrored
    picture. `counts`: how often each image is drawn, once if None. `scores`: `margins`, or `both` for the
    mean of the two.
    """
    labels, found = np.array(cell["labels"]), []
    for fold in cell["folds"]:
        indices, values = fold["indices"], np.array(fold["margins"])
        if scores == "both":
            values = (values + np.array(fold["mirrored_margins"])) / 2
        truth = labels[indices] == 1
        if counts is not None:
            truth, values = np.repeat(truth, counts[indices]), np.repeat(values, counts[indices])
        found.append(rank_auc(truth, values))
    return float(np.mean(found))


def draws_of(labels: Sequence[int], resamples: int = 1000, seed: int = 0) -> list[NDArray[np.int64]]:
    """How often each image is drawn, of as many drawn anew within each class, `resamples` times."""
    truth, rng = np.array(labels), np.random.default_rng(seed)
    members = [np.flatnonzero(truth == label) for label in np.unique(truth)]
    found = []
    for _ in range(resamples):
        drawn = np.concatenate([rng.choice(some, len(some)) for some in members])
        found.append(np.bincount(drawn, minlength=len(truth)))
    return found


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95% percentile interval."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def with_interval(cell: Cell, scores: str = "margins") -> tuple[float, tuple[float, float]]:
    """`mean_auc`, and its 95% interval over images drawn anew; what another seed changes is not in it."""
    drawn = [mean_auc(cell, counts, scores) for counts in draws_of(cell["labels"])]
    return mean_auc(cell, scores=scores), interval(drawn)


def differences(
    before: dict[tuple[str, str], Cell], after: dict[tuple[str, str], Cell], scores: tuple[str, str]
) -> dict[str, tuple[float, tuple[float, float]]]:
    """By row and column that both have, and in the mean of those trained on one hospital: `after` less
    `before`, with 95% intervals. Images are drawn alike for all of a hospital's cells."""
    shared = [key for key in before if key in after]
    draws = {tested: draws_of(before[row, tested]["labels"]) for row, tested in shared}

    def less(key: tuple[str, str], counts: NDArray[np.int64] | None) -> float:
        return mean_auc(after[key], counts, scores[1]) - mean_auc(before[key], counts, scores[0])

    single = [key for key in shared if key[0] != "all"]
    found = {f"{row}, {tested}": [less((row, tested), None)] for row, tested in shared}
    found |= (
        {"mean of those trained on one": [float(np.mean([less(key, None) for key in single]))]}
        if single
        else {}
    )
    for number in range(len(next(iter(draws.values())))):
        now = {key: less(key, draws[key[1]][number]) for key in shared}
        for (row, tested), value in now.items():
            found[f"{row}, {tested}"].append(value)
        if single:
            found["mean of those trained on one"].append(float(np.mean([now[key] for key in single])))
    return {name: (values[0], interval(values[1:])) for name, values in found.items()}


def main() -> None:
    """Print the differences of two files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument(
        "--mirrored", action="store_true", help="the second: mean with the mirrored picture's score"
    )
    given = parser.parse_args()
    found = differences(
        cells(given.before), cells(given.after), ("margins", "both" if given.mirrored else "margins")
    )
    for name, (value, (low, high)) in found.items():
        print(f"{name}: {value:+.3f} ({low:+.3f} to {high:+.3f})")


def cells(file: Path) -> dict[tuple[str, str], Cell]:
    """By (trained on, tested on), what `mean_auc` takes."""
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]
    return {(row, tested): cell for row, one in rows.items() for tested, cell in one["tested"].items()}


if __name__ == "__main__":
    main()
