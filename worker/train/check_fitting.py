"""Fitting the check of a version at the end of its training, and measuring it on the validation part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from worker.images.preprocess import Pixels, preprocess
from worker.input_check.check import (
    CHECK_FILE,
    InputCheck,
    Scores,
    as_float32,
    heads_in_order,
    save_check,
    thresholds_in_order,
)
from worker.input_check.features import layer_to_check
from worker.model.metadata import (
    InputCheckRecord,
    ModelMetadata,
    read_metadata,
    sha256_of,
    write_metadata,
)
from worker.odd_words import INVERTED, MIRRORED, NOT_A_RADIOGRAPH, TURNED, UNLIKE_TRAINING
from worker.train.check_copies import changed, inverted, mirrored, piece, shuffled, turned
from worker.train.check_features import FeatureReader
from worker.train.dataset import LabelledDataset
from worker.train.drawn_pictures import draw_picture

IMAGES = 300
VALIDATION_IMAGES = 100
DRAWN = 1200
VALIDATION_DRAWN = 160
# Strength of the penalty: features are many and strongly correlated.
_C = 0.03
_AXES = 32
# Images whose copies are held at once, and how many copies there are of each to learn from and to judge by.
_TOGETHER = 16
_COPIES, _JUDGED_COPIES = 13, 7
# Chosen on held-out images of the Shenzhen set, the Montgomery set, and photographs (docs/input-check.md).
# A word is said from this logit on, or from what the validation part's own images reach where that is more.
# By word, since errors differ in what they cost and in how far another hospital's images come near.
LEAST_LOGIT = {NOT_A_RADIOGRAPH: 0.5, INVERTED: 1.0, **dict.fromkeys(TURNED, 1.0), MIRRORED: 2.0}
# Another hospital's images are farther away than those held out here.
DISTANCE_FACTOR = 1.5

Features = NDArray[np.float32]
Tell = Callable[[int, int], object]


@dataclass(frozen=True)
class _Pictures:
    """Pictures, until their features are known, and what they are: `radiograph` 1 or 0; `inverted`,
    `quarters` and `mirrored` hold for radiographs, the last for upright ones that are not inverted."""

    pixels: list[Pixels]
    radiograph: list[int]
    inverted: list[int]
    quarters: list[int]
    mirrored: list[int]

    def add(
        self, pixels: Pixels, *, radiograph: int = 1, inverted: int = 0, quarters: int = 0, mirrored: int = 0
    ) -> None:
        self.pixels.append(pixels)
        self.radiograph.append(radiograph)
        self.inverted.append(inverted)
        self.quarters.append(quarters)
        self.mirrored.append(mirrored)


def fit_check(
    metadata: ModelMetadata,
    network: Any,
    dataset: LabelledDataset,
    training: Sequence[int],
    validation: Sequence[int],
    *,
    seed: int = 0,
    progress: Tell = lambda _done, _of: None,
) -> tuple[InputCheck, dict[str, Any]]:
    """The check for `network`, and its figures in JSON's types.

    Linear heads are fitted on features of up to 300 of the images at `training`, of their turned, inverted,
    mirrored and cut copies, and of 1,200 drawn pictures; thresholds are set, and figures measured, on up to
    100 of those at `validation`. Equal arguments give an equal check. `progress` is told of pictures, and
    ends it by raising. Raises ImageError for an image that has become unreadable.
    """
    layer = layer_to_check(metadata.layers, metadata.preprocessing.size)
    rng = np.random.default_rng((seed, 1))
    learned = np.sort(rng.permutation(np.array(training))[:IMAGES])
    judged = np.sort(rng.permutation(np.array(validation))[:VALIDATION_IMAGES])
    total = _COPIES * len(learned) + DRAWN + _JUDGED_COPIES * len(judged) + VALIDATION_DRAWN
    reader = FeatureReader(network, metadata.preprocessing, layer.name, lambda done: progress(done, total))

    pictures, features = _Pictures([], [], [], [], []), []
    for start in range(0, len(learned), _TOGETHER):
        together = learned[start : start + _TOGETHER]
        for index in together:
            _add_copies(pictures, metadata, dataset, int(index), seed)
        features.append(reader(pictures.pixels))
        assert len(features[-1]) == _COPIES * len(together)
        pictures.pixels.clear()
    size = metadata.preprocessing.size
    for start in range(0, DRAWN, 32):
        drawn = [draw_picture(number, size, seed) for number in range(start, min(start + 32, DRAWN))]
        features.append(reader(drawn))
        for one in drawn:
            pictures.add(one, radiograph=0)
        pictures.pixels.clear()
    check = _fitted(layer.name, np.concatenate(features), pictures, seed)
    assert len(pictures.radiograph) == _COPIES * len(learned) + DRAWN

    of: dict[str, list[Pixels]] = {}
    for index in judged:
        for name, pixels in _judged_copies(metadata, dataset, int(index), seed).items():
            of.setdefault(name, []).append(pixels)
    by_kind = {name: reader(copies) for name, copies in of.items()}
    others = [draw_picture(DRAWN + number, size, seed) for number in range(VALIDATION_DRAWN)]
    by_kind["drawn"] = reader(others)
    check = _with_thresholds(check, [check.scores(by_kind[name]) for name in ("as they are", "changed")])
    return check, _figures(check, by_kind, learned=len(learned), judged=len(judged))


def _add_copies(
    pictures: _Pictures, metadata: ModelMetadata, dataset: LabelledDataset, index: int, seed: int
) -> None:
    radiograph, given = dataset.radiograph(index), metadata.preprocessing
    rng = np.random.default_rng((seed, 2, index))
    plain = preprocess(radiograph, given)
    copies = [changed(radiograph, given, (seed, index, number)) for number in range(6)]
    pictures.add(plain)
    pictures.add(copies[0])
    pictures.add(copies[1])
    pictures.add(mirrored(plain), mirrored=1)
    pictures.add(mirrored(copies[2]), mirrored=1)
    for quarters, one in zip((1, 2, 3), (copies[3], plain, copies[4]), strict=True):
        one = mirrored(one) if rng.random() < 0.3 else one
        pictures.add(turned(one, quarters), quarters=quarters)
    pictures.add(inverted(plain), inverted=1)
    pictures.add(inverted(copies[1]), inverted=1)
    quarters = int(rng.integers(0, 4))
    pictures.add(turned(inverted(copies[5]), quarters), inverted=1, quarters=quarters)
    pictures.add(piece(radiograph, given.size, rng), radiograph=0)
    pictures.add(shuffled(radiograph, given, rng), radiograph=0)


def _judged_copies(
    metadata: ModelMetadata, dataset: LabelledDataset, index: int, seed: int
) -> dict[str, Pixels]:
    radiograph, given = dataset.radiograph(index), metadata.preprocessing
    plain = preprocess(radiograph, given)
    return {
        "as they are": plain,
        "changed": changed(radiograph, given, (seed, index, 100)),
        INVERTED: inverted(plain),
        **{word: turned(plain, quarters) for quarters, word in enumerate(TURNED, start=1)},
        MIRRORED: mirrored(plain),
    }


def _fitted(layer: str, features: Features, pictures: _Pictures, seed: int) -> InputCheck:
    is_radiograph = np.array(pictures.radiograph) == 1
    is_inverted, quarters = np.array(pictures.inverted), np.array(pictures.quarters)
    is_mirrored = np.array(pictures.mirrored)
    upright = is_radiograph & (is_inverted == 0) & (quarters == 0)
    mean, scale = features[is_radiograph].mean(0), features[is_radiograph].std(0)
    scale = np.maximum(scale, 1e-3 * scale.max() + 1e-6)
    standard = (features - mean) / scale
    heads = {
        NOT_A_RADIOGRAPH: _binary(standard, ~is_radiograph, np.ones(len(standard), bool)),
        INVERTED: _binary(standard, is_inverted == 1, is_radiograph),
        MIRRORED: _binary(standard, is_mirrored == 1, upright),
    }
    positions = LogisticRegression(C=_C, max_iter=500).fit(standard[is_radiograph], quarters[is_radiograph])
    for number, name in enumerate(("upright", *TURNED)):
        heads[name] = positions.coef_[number], positions.intercept_[number]
    own = standard[upright]
    axes = PCA(min(_AXES, *own.shape), random_state=seed).fit(own).components_.T
    along = own @ axes
    outside = np.sqrt(np.maximum((own**2).sum(1) - (along**2).sum(1), 0.0))
    spread = np.append(along.std(0), np.sqrt((outside**2).mean()))
    return InputCheck(
        layer,
        {
            "mean": as_float32(mean),
            "scale": as_float32(scale),
            "weights": as_float32(np.stack([heads[name][0] for name in heads_in_order()], axis=1)),
            "bias": as_float32([heads[name][1] for name in heads_in_order()]),
            "axes": as_float32(axes),
            "spread": as_float32(np.maximum(spread, 1e-6)),
        },
        {},
    )


def _binary(standard: Features, wanted: NDArray[np.bool_], of: NDArray[np.bool_]) -> tuple[Any, float]:
    found = LogisticRegression(C=_C, max_iter=500).fit(standard[of], wanted[of])
    return found.coef_[0], float(found.intercept_[0])


def _with_thresholds(check: InputCheck, own: Sequence[Scores]) -> InputCheck:
    """`own`: scores of images as they should be, of which a word meets at most 1 in 200."""
    highest = {
        word: float(np.quantile(np.concatenate([scores[word] for scores in own]), 0.995))
        for word in (*LEAST_LOGIT, UNLIKE_TRAINING)
    }
    thresholds = {word: max(least, highest[word]) for word, least in LEAST_LOGIT.items()}
    thresholds[UNLIKE_TRAINING] = DISTANCE_FACTOR * highest[UNLIKE_TRAINING]
    return InputCheck(check.layer, check.arrays, thresholds_in_order(thresholds))


def _figures(check: InputCheck, by_kind: dict[str, Features], *, learned: int, judged: int) -> dict[str, Any]:
    """Of how many images of each kind something was said, and the right word of how many."""
    right = {"as they are": "", "changed": "", "drawn": NOT_A_RADIOGRAPH}
    kinds = {}
    for name, features in by_kind.items():
        words = check.words(features)
        kinds[name] = {
            "images": len(words),
            "flagged": sum(1 for word in words if word),
            "right": sum(1 for word in words if word == right.get(name, name)),
        }
    return {"training_images": learned, "validation_images": judged, "kinds": kinds}


def add_check(folder: Path, check: InputCheck, figures: dict[str, Any]) -> ModelMetadata:
    """Put `check` into the model folder `folder`, which must not be published yet; its metadata anew."""
    save_check(check, folder)
    record = InputCheckRecord(
        sha256=sha256_of(folder / CHECK_FILE), layer=check.layer, thresholds=check.thresholds, figures=figures
    )
    metadata = read_metadata(folder).model_copy(update={"input_check": record})
    write_metadata(folder, metadata)
    return metadata
