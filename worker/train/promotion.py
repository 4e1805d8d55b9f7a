"""Whether a new version becomes current: by rule, on images that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from db.ledger import Ledger
from db.models import Model, current_model
from worker.errors import ModelError, XraycamError
from worker.model.network import load_model
from worker.model.store import ModelStore, ensure_current_model
from worker.train.dataset import LabelledDataset
from worker.train.evaluation import predict_logits
from worker.train.metrics import roc_auc, softmax
from worker.train.options import TrainOptions


@dataclass(frozen=True)
class PromotionDecision:
    """`reason` is a sentence for the person who asked."""

    promote: bool
    reason: str


def decide_promotion(
    auc: float,
    options: TrainOptions,
    ledger: Ledger,
    store: ModelStore,
    dataset: LabelledDataset,
    validation: Sequence[int],
) -> PromotionDecision:
    """Judge a version of area under the curve `auc` on the images `validation`, against the current one.

    With `if-better` it is promoted if it is not worse by more than the tolerance on the same images. What
    cannot be compared, because classes differ or the current version cannot be used, is not promoted.
    """
    if options.promote != "if-better":
        promote = options.promote == "always"
        return PromotionDecision(promote, "promoted, as asked" if promote else "not promoted, as asked")
    current = _current(ledger, store)
    if current is None:
        return PromotionDecision(True, "promoted: there was no version before")
    if current.classes != dataset.classes:
        return PromotionDecision(
            False,
            f"not promoted: the classes of the current version {current.version} are "
            f"{', '.join(current.classes)}, so the two cannot be compared",
        )
    try:
        before = _auc_of(current, store, dataset, validation)
    except XraycamError as error:
        return PromotionDecision(False, f"not promoted: the current version cannot be measured: {error}")
    return apply_promotion_rule(auc, current.version, before, options.tolerance)


def apply_promotion_rule(auc: float, current: str, current_auc: float, tolerance: float) -> PromotionDecision:
    """The rule on its own. An area that is not a number is never promoted."""
    better = auc >= current_auc - tolerance - 1e-9
    word = "promoted" if better else "not promoted"
    return PromotionDecision(
        better,
        f"{word}: AUC {auc:.4f}, the current version {current} has {current_auc:.4f} on the same "
        f"{'images' if better else f'images, and {tolerance:g} less is allowed'}",
    )


def _current(ledger: Ledger, store: ModelStore) -> Model | None:
    try:
        return ensure_current_model(ledger, store)
    except ModelError:
        return current_model(ledger)


def _auc_of(model: Model, store: ModelStore, dataset: LabelledDataset, validation: Sequence[int]) -> float:
    description, network = load_model(store.fetch(model.version, model.digest))
    scores = predict_logits(network, description.preprocessing, dataset, validation)
    labels = np.array(dataset.labels)[list(validation)]
    return roc_auc(labels, softmax(scores))
