"""Which images are learned from and which are judged on. Seeded, stratified, groups kept together."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from worker.train.dataset import DatasetError, Labelled


@dataclass(frozen=True)
class Split:
    """Indices into a `Labelled`, ascending."""

    training: tuple[int, ...]
    validation: tuple[int, ...]


def split(dataset: Labelled, *, share: float, seed: int) -> Split:
    """Put about `share` of each class aside for validation; groups go to one side whole.

    Raises DatasetError if a class would be missing on one side.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(dataset.groups):
        members[group].append(index)
    wanted = {n: round(share * count) for n, count in Counter(dataset.labels).items()}
    order = np.random.default_rng(seed).permutation(sorted(members))
    validation: list[int] = []
    for group in order:
        needs = Counter(dataset.labels[index] for index in members[int(group)])
        if all(wanted[label] >= count for label, count in needs.items()):
            validation += members[int(group)]
            wanted = {label: count - needs[label] for label, count in wanted.items()}
    return _checked(dataset, validation)


def fold_splits(dataset: Labelled, *, folds: int, seed: int) -> list[Split]:
    """`folds` splits such that every image is in exactly one validation part."""
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            parts = list(splitter.split(np.zeros(len(dataset)), dataset.labels, dataset.groups))
        except (ValueError, UserWarning) as error:
            raise DatasetError(f"{dataset.root} cannot be cut into {folds} folds: {error}") from error
    return [_checked(dataset, [int(index) for index in held_out]) for _, held_out in parts]


def _checked(dataset: Labelled, validation: list[int]) -> Split:
    aside = set(validation)
    result = Split(
        training=tuple(index for index in range(len(dataset)) if index not in aside),
        validation=tuple(sorted(aside)),
    )
    for name, part in (("training", result.training), ("validation", result.validation)):
        missing = [label for label, count in dataset.counts(part).items() if count == 0]
        if missing:
            raise DatasetError(
                f"{dataset.root}: no image of {', '.join(missing)} would be in the {name} part; "
                "add images, or change the validation share or --group-by"
            )
    return result
