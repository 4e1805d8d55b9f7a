"""The check of a version: linear heads and a distance over pooled features, kept as arrays and thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from worker.errors import ModelError
from worker.file_names import printable
from worker.model.metadata import InputCheckRecord, ModelMetadata
from worker.odd_words import INVERTED, MIRRORED, NOT_A_RADIOGRAPH, TURNED, UNLIKE_TRAINING
from worker.safe_files import apply_umask

CHECK_FILE = "input_check.safetensors"

Floats = NDArray[np.float32]
Scores = dict[str, NDArray[np.float64]]

# Columns of the linear heads; the first of the four positions is upright.
_HEADS = (NOT_A_RADIOGRAPH, INVERTED, MIRRORED, "upright", *TURNED)
_POSITIONS = slice(3, 7)


@dataclass(frozen=True)
class InputCheck:
    """Says for each image what is odd about it, from the features of `layer` (see `features.pool`).

    `arrays`, float32: `mean` and `scale` (F,) standardise features; `weights` (F, 7) and `bias` (7,) are
    linear heads, in logits; `axes` (F, D) and `spread` (D,) are principal axes of the training images'
    features and the standard deviations along them. `thresholds` are by word: on a head's logit, on the
    distance for `unlike-training`; a word without one is never said.
    """

    layer: str
    arrays: dict[str, Floats]
    thresholds: dict[str, float]

    def scores(self, features: Floats) -> Scores:
        """For each word the evidence (N,) of features (N, F).

        Logits, of a position that against all others together; for `unlike-training` the root mean square
        of the standardised distances along the principal axes and of what lies outside of them
        (Mahalanobis distance; 1 is usual for training images).
        """
        # In double precision, so that a word does not depend on which images are asked together.
        standard = (features.astype(np.float64) - self.arrays["mean"]) / self.arrays["scale"]
        logits = standard @ self.arrays["weights"].astype(np.float64) + self.arrays["bias"]
        found: Scores = {name: logits[:, n] for n, name in enumerate(_HEADS[:3])}
        positions = logits[:, _POSITIONS]
        for number, word in enumerate(TURNED, start=1):
            others = np.delete(positions, number, axis=1)
            found[word] = positions[:, number] - np.logaddexp.reduce(others, axis=1)
        found[UNLIKE_TRAINING] = self._distance(standard)
        return found

    def _distance(self, standard: NDArray[np.float64]) -> NDArray[np.float64]:
        axes, spread = self.arrays["axes"].astype(np.float64), self.arrays["spread"].astype(np.float64)
        along = standard @ axes
        outside = np.sqrt(np.maximum((standard**2).sum(1) - (along**2).sum(1), 0.0))
        terms = np.concatenate([along / spread[:-1], outside[:, np.newaxis] / spread[-1]], axis=1)
        return np.asarray(np.sqrt((terms**2).mean(1)))

    def words(self, features: Floats) -> list[str]:
        """For each image of features (N, F) its words, separated by commas; empty: nothing is odd.

        What is no radiograph has no position or polarity of its own, and only what is upright and not
        inverted can be called mirrored or unlike the training images.
        """
        scores = self.scores(features)
        return [
            ",".join(self._words_of({word: float(values[n]) for word, values in scores.items()}))
            for n in range(len(features))
        ]

    def _words_of(self, scores: dict[str, float]) -> list[str]:
        said = [word for word, limit in self.thresholds.items() if scores[word] > limit]
        if NOT_A_RADIOGRAPH in said:
            return [NOT_A_RADIOGRAPH]
        turned = [word for word in TURNED if word in said]
        position = [max(turned, key=lambda word: scores[word])] if turned else []
        changed = [*([INVERTED] if INVERTED in said else []), *position]
        return changed or [word for word in (MIRRORED, UNLIKE_TRAINING) if word in said]


def save_check(check: InputCheck, folder: Path) -> None:
    """Write the arrays of `check` into a model folder. Where they are described, see `InputCheckRecord`."""
    save_file(check.arrays, folder / CHECK_FILE)
    apply_umask(folder / CHECK_FILE)


def load_check(folder: Path, metadata: ModelMetadata) -> InputCheck | None:
    """The check of the version in `folder`, whose files are checked already; None if it has none.

    Raises ModelError for arrays that cannot be read or do not fit.
    """
    record = metadata.input_check
    if record is None:
        return None
    file = folder / record.file
    try:
        arrays = load_file(file)
    except Exception as error:  # of the many kinds a damaged file leads to in the library
        cause = printable(" ".join(str(error).split()))[:300]
        raise ModelError(f"model {metadata.version}: {printable(file)} cannot be read: {cause}") from error
    check = InputCheck(record.layer, arrays, dict(record.thresholds))
    _refuse_misfit(check, record, metadata)
    return check


def _refuse_misfit(check: InputCheck, record: InputCheckRecord, metadata: ModelMetadata) -> None:
    features = record.grid**2 * metadata.require_layer(record.layer).channels
    arrays = check.arrays
    axes = arrays["axes"].shape[-1] if "axes" in arrays else 0
    wanted = {
        "mean": (features,),
        "scale": (features,),
        "weights": (features, len(_HEADS)),
        "bias": (len(_HEADS),),
        "axes": (features, axes),
        "spread": (axes + 1,),
    }
    for name, shape in wanted.items():
        array = arrays.get(name)
        if array is None or array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
            raise ModelError(
                f"model {metadata.version}: {name} in {record.file} is not {shape} finite numbers in single "
                "precision; restore or import the version again"
            )
    if (arrays["scale"] <= 0).any() or (arrays["spread"] <= 0).any():
        raise ModelError(
            f"model {metadata.version}: {record.file} has a spread of zero; restore or import it again"
        )


def thresholds_in_order(thresholds: dict[str, float]) -> dict[str, float]:
    """Plain numbers, for `model.json`."""
    return {word: round(float(value), 4) for word, value in thresholds.items()}


def heads_in_order() -> tuple[str, ...]:
    """The columns of `weights`, for whoever fits them."""
    return _HEADS


def as_float32(value: Any) -> Floats:
    return np.ascontiguousarray(value, np.float32)
