"""The split of labelled images into training and validation parts."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import chain

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from worker.train.dataset import DatasetError, LabelledDataset

# Of an image that has none of the findings.
_NOTHING = -1


@dataclass(frozen=True)
class Split:
    """Indices into a `LabelledDataset`, ascending."""

    training: tuple[int, ...]
    validation: tuple[int, ...]


def train_val_split(dataset: LabelledDataset, *, share: float, seed: int) -> Split:
    """Put about `share` of each class, or of the images with each finding, aside for validation; groups go to
    one side whole.

    Raises DatasetError if a class would be missing on one side, or images with a finding, or without it.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(dataset.groups):
        members[group].append(index)
    marks = [dataset.names_of(index) or [_NOTHING] for index in range(len(dataset))]
    wanted = {n: round(share * count) for n, count in Counter(chain(*marks)).items()}
    order = np.random.default_rng(seed).permutation(sorted(members))
    validation: list[int] = []
    for group in order:
        needs = Counter(mark for index in members[int(group)] for mark in marks[index])
        if all(wanted[label] >= count for label, count in needs.items()):
            validation += members[int(group)]
            wanted = {label: count - needs[label] for label, count in wanted.items()}
    return _checked(dataset, validation)


def fold_splits(dataset: LabelledDataset, *, folds: int, seed: int) -> list[Split]:
    """`folds` splits such that every image is in exactly one validation part; of exclusive classes."""
    if dataset.findings is not None:
        raise DatasetError(f"{dataset.root}: folds are cut of exclusive classes, not of findings")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            parts = list(splitter.split(np.zeros(len(dataset)), dataset.labels, dataset.groups))
        except (ValueError, UserWarning) as error:
            raise DatasetError(f"{dataset.root} cannot be cut into {folds} folds: {error}") from error
    return [_checked(dataset, [int(index) for index in held_out]) for _, held_out in parts]


def _checked(dataset: LabelledDataset, validation: list[int]) -> Split:
    aside = set(validation)
    result = Split(
        training=tuple(index for index in range(len(dataset)) if index not in aside),
        validation=tuple(sorted(aside)),
    )
    for name, part in (("training", result.training), ("validation", result.validation)):
        missing = dataset.one_sided(part)
        if missing:
            raise DatasetError(
                f"{dataset.root}: no image of {', '.join(missing)} would be in the {name} part; "
                "add images, or change the validation share or --group-by"
            )
    return result
