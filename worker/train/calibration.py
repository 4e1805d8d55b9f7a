"""A threshold for a site: measured on its own labelled images, over all thresholds and by subgroup."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from db.models import Model
from db.operating_points import SiteThreshold
from worker.counted_words import counted
from worker.errors import XraycamError
from worker.file_names import printable
from worker.intervals import Interval, share_interval
from worker.model.network import load_model
from worker.model.score_reference import Distribution, OperatingPoint
from worker.model.store import ModelStore
from worker.settings import Settings
from worker.train.dataset import LabelledDataset
from worker.train.evaluation import labels_for, predict_logits
from worker.train.held_out import in_digests, pack_digests
from worker.train.operating_points import (
    Aim,
    Floats,
    counts_at,
    distributions,
    known_positive,
    operating_point,
    positive_scores,
    rates,
)
from worker.train.plots import plot_thresholds
from worker.train.screening import Screening, every_threshold, screening

GROUPS = ("device", "age", "sex")
_AGES = (15, 35, 55, 75)
CALIBRATION_FILE = "calibration.json"
THRESHOLDS_FILE = "thresholds.csv"
PLOT_FILE = "thresholds.png"
# Fewer of a kind say little of a rate.
FEW = 20


class CalibrationError(XraycamError):
    """Raised when a threshold cannot be measured."""


@dataclass(frozen=True)
class Subgroup:
    """What the threshold gives among `images` of one device, age band or sex; None where there is none."""

    column: str
    value: str
    positive_images: int
    negative_images: int
    sensitivity: float | None
    sensitivity_interval: Interval | None
    specificity: float | None
    specificity_interval: Interval | None


@dataclass(frozen=True)
class Calibration:
    """What thresholds give on one set of images, and the one that was chosen or checked. `measured_on`: these
    images, as `pack_digests` packs them."""

    point: OperatingPoint
    at_point: Screening
    prevalence: float
    over_thresholds: list[Screening]
    subgroups: list[Subgroup]
    distributions: dict[str, Distribution]
    measured_on: str = ""

    @property
    def figures(self) -> dict[str, Any]:
        """All but the table over thresholds, in JSON's types."""
        return {
            "operating_point": self.point.model_dump(mode="json"),
            "at_prevalence": {"prevalence": self.prevalence} | asdict(self.at_point),
            "subgroups": [asdict(group) for group in self.subgroups],
            "distributions": {name: one.model_dump(mode="json") for name, one in self.distributions.items()},
            "measured_on": self.measured_on,
        }


def calibrate(
    settings: Settings,
    model: Model,
    store: ModelStore,
    folder: Path,
    output: Path,
    *,
    aim: Aim,
    prevalence: float | None,
    groups: Path | None,
    saved: SiteThreshold | None,
    on_message: Callable[[str], object],
    images: Path | None = None,
) -> Calibration:
    """Choose the threshold for `aim` of `model` on the images of `folder`, sub-folders named as its classes,
    or a CSV file of labels with paths relative to `images`, and write tables and plot into `output`. Raises
    XraycamError.

    `saved`: its threshold is measured instead of choosing one, on images that it was not chosen on.
    `prevalence` None: that of the images. `groups`: a CSV file with `path` and any of device, age, sex.
    """
    metadata, network = load_model(store.fetch(model.version, model.digest))
    if metadata.positive_class is None:
        raise CalibrationError(
            f"model {model.version} has no positive class, and so no score; train one with --positive CLASS"
        )
    on_message(f"reading {folder}")
    dataset = labels_for(metadata, folder, images, settings, on_message)
    if saved is not None:
        dataset = without_choosing_images(dataset, saved, on_message)
    label = metadata.classes.index(metadata.positive_class)
    positive, known = known_positive(dataset, range(len(dataset)), label)
    if not known.all():
        on_message(
            f"{metadata.positive_class} is not known of {counted(int((~known).sum()), 'image')}, left out"
        )
        dataset = dataset.subset([int(index) for index in np.flatnonzero(known)])
        positive = positive[known]
    if positive.all() or not positive.any():
        raise CalibrationError(
            f"{printable(folder)}: a threshold needs images with {metadata.positive_class} and without it; "
            f"there are {int(positive.sum())} and {int((~positive).sum())}"
        )
    members = None if groups is None else read_groups(groups, dataset, on_message)
    few = min(int(positive.sum()), int((~positive).sum()))
    if few < FEW:
        on_message(f"warning: only {counted(few, 'image')} of one kind; figures and intervals rest on little")
    logits = predict_logits(network, metadata.preprocessing, dataset)
    scores = positive_scores(logits, label, metadata.temperature, metadata.output)
    threshold = None if saved is None else saved.threshold
    found = measure(positive, scores, aim, prevalence, members or {}, threshold)
    seen = distributions(dataset, range(len(dataset)), metadata.preprocessing, scores)
    found = replace(found, distributions=seen, measured_on=pack_digests(dataset.sha256))
    _write(found, output, model.version, folder, dataset)
    return found


def without_choosing_images(
    dataset: LabelledDataset, saved: SiteThreshold, on_message: Callable[[str], object]
) -> LabelledDataset:
    """The images that the site's threshold was not chosen on. Raises CalibrationError if none is left."""
    known = in_digests(saved.figures.get("measured_on"), dataset.sha256)
    if known is None:
        on_message(
            f"warning: the threshold of site {saved.site} does not say which images it was chosen on; if "
            "these are among them, the figures are too good"
        )
        return dataset
    if not any(known):
        return dataset
    said = f"{sum(known)} of these {counted(len(dataset), 'image')} chose the threshold of site {saved.site}"
    if all(known):
        raise CalibrationError(f"--check: {said}, which flatters it; give images that were kept aside")
    on_message(f"warning: {said}; they are left out")
    return dataset.subset([index for index, chose in enumerate(known) if not chose])


def measure(
    positive: NDArray[np.bool_],
    scores: Floats,
    aim: Aim,
    prevalence: float | None,
    members: dict[tuple[str, str], NDArray[np.bool_]],
    threshold: float | None = None,
) -> Calibration:
    """The operating point for `aim`, or that of a given `threshold`, and what it gives; `members` marks the
    images (N,) of each subgroup."""
    point = operating_point(positive, scores, aim, threshold=threshold)
    of_people = float(positive.mean()) if prevalence is None else prevalence
    return Calibration(
        point=point,
        at_point=screening(
            point.threshold,
            point.sensitivity,
            point.specificity,
            of_people,
            point.sensitivity_interval,
            point.specificity_interval,
        ),
        prevalence=of_people,
        over_thresholds=every_threshold(positive, scores, of_people),
        subgroups=[
            _subgroup(column, value, positive[inside], scores[inside], point.threshold)
            for (column, value), inside in members.items()
        ],
        distributions={},
    )


def _subgroup(
    column: str, value: str, positive: NDArray[np.bool_], scores: Floats, threshold: float
) -> Subgroup:
    sensitivity, specificity = rates(positive, scores, threshold)
    referred, cleared = counts_at(positive, scores, threshold)
    return Subgroup(
        column,
        value,
        referred[1],
        cleared[1],
        sensitivity if referred[1] else None,
        share_interval(*referred) if referred[1] else None,
        specificity if cleared[1] else None,
        share_interval(*cleared) if cleared[1] else None,
    )


def read_groups(
    file: Path, dataset: LabelledDataset, on_message: Callable[[str], object] = lambda _: None
) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Which images (N,) of `dataset` are in which subgroup, by column and value, from a CSV file.

    Its column `path` is relative to the data set, or a file name that occurs once there. Raises
    CalibrationError for a file that cannot be read, lacks the columns, or names none of the images.
    """
    columns, rows = _rows_of(file, on_message)
    place: dict[str, list[int]] = defaultdict(list)
    for index, path in enumerate(dataset.files):
        for name in {str(path.relative_to(dataset.root)), path.name}:
            place[name].append(index)
    found: dict[tuple[str, str], NDArray[np.bool_]] = {}
    named: set[int] = set()
    said: dict[tuple[int, str], str] = {}
    for row in rows:
        indices = place.get((row["path"] or "").strip(), [])
        if len(indices) > 1:
            raise CalibrationError(
                f"--groups {file}: {printable(row['path'])} is the name of {len(indices)} images; write the "
                "path from the data set's folder"
            )
        for index in indices:
            named.add(index)
            for column in columns:
                value = _band(row[column], file) if column == "age" else (row[column] or "").strip()
                before = said.setdefault((index, column), value) if value else value
                if before != value:
                    raise CalibrationError(
                        f"--groups {file}: says {column} {printable(before)} and {printable(value)} of "
                        f"{printable(row['path'])}; an image is in one subgroup of each column"
                    )
                if value:
                    inside = found.setdefault((column, value), np.zeros(len(dataset), bool))
                    inside[index] = True
    if not named:
        raise CalibrationError(
            f"--groups {file}: names none of the {len(dataset)} images of {dataset.root}; its column path is "
            "relative to that folder"
        )
    if len(named) < len(dataset):
        on_message(f"--groups {file}: says nothing of {len(dataset) - len(named)} of {len(dataset)} images")
    return dict(sorted(found.items()))


def _rows_of(
    file: Path, on_message: Callable[[str], object]
) -> tuple[list[str], list[dict[str, str | None]]]:
    """Which of `GROUPS` a CSV file has, and its rows by them and by `path`, whatever the case of its names;
    says which columns are not used."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            given = [name.strip() for name in reader.fieldnames or ()]
            names = [name.casefold() for name in given]
            reader.fieldnames = names
            columns = [name for name in GROUPS if name in names]
            if "path" not in names or not columns:
                raise CalibrationError(
                    f"--groups {file}: needs a column path and one or more of {', '.join(GROUPS)}; it has "
                    f"{printable(', '.join(given) or 'none')}"
                )
            again = [name for name in ("path", *columns) if names.count(name) > 1]
            if again:
                raise CalibrationError(f"--groups {file}: two columns are called {again[0]}; leave one")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        cause = getattr(error, "strerror", None) or error
        raise CalibrationError(f"--groups {file} cannot be read as CSV in UTF-8: {cause}") from None
    unused = [name for name in given if name and name.casefold() not in ("path", *columns)]
    if unused:
        on_message(f"--groups {file}: columns not used: {printable(', '.join(unused))}")
    return columns, rows


def _band(given: str | None, file: Path) -> str:
    text = (given or "").strip()
    if not text:
        return ""
    try:
        age = float(text)
    except ValueError:
        age = float("nan")
    if not 0 <= age < float("inf"):
        raise CalibrationError(
            f"--groups {file}: age {printable(text)} is no number of years; leave it empty where "
            "it is not known"
        )
    lower = max((edge for edge in _AGES if age >= edge), default=0)
    upper = min((edge for edge in _AGES if age < edge), default=None)
    return f"{lower:02d} and older" if upper is None else f"{lower:02d} to {upper - 1}"


def _write(found: Calibration, output: Path, version: str, folder: Path, dataset: LabelledDataset) -> None:
    content = {"model": version, "dataset": str(folder), "digest": dataset.digest, **found.figures}
    output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    (output / CALIBRATION_FILE).write_text(text + "\n", encoding="utf-8")
    with (output / THRESHOLDS_FILE).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(found.at_point.columns))
        writer.writeheader()
        writer.writerows(row.columns for row in found.over_thresholds)
    plot_thresholds(found.over_thresholds, found.point, found.prevalence, output / PLOT_FILE)


def nearest(rows: Sequence[Screening], thresholds: Sequence[float]) -> list[Screening]:
    """For each of `thresholds` what it refers: the row of the lowest threshold that is not below it."""
    found = []
    for threshold in thresholds:
        above = [row for row in rows if row.threshold >= threshold]
        if above:
            found.append(above[-1])
    return found
