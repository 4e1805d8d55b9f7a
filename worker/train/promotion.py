"""Whether a new version becomes current: by rule, on images that it did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from db.ledger import Ledger
from db.models import Model, current_model
from worker.errors import ModelError, XraycamError
from worker.model.doubts import doubts, is_flat
from worker.model.metadata import read_metadata
from worker.model.network import load_model
from worker.model.score_change import score_change
from worker.model.store import ModelStore, ensure_current_model
from worker.train.dataset import LabelledDataset
from worker.train.evaluation import predict_logits
from worker.train.held_out import trained_on
from worker.train.metrics import leading_index, probabilities_from, roc_auc
from worker.train.options import TrainOptions

# Images of each class that neither version has seen, for a comparison of the two.
MIN_UNSEEN = 5


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
    candidate: Path,
) -> PromotionDecision:
    """Judge a version of area under the curve `auc` on the images `validation`, against the current one.

    With `if-better` it is promoted if it is not worse by more than the tolerance on the same images. Those
    that the current version learned from are left out for both, since on them it looks better than it is; the
    version in the folder `candidate` is then measured again. What cannot be compared is not promoted.
    """
    if options.promote != "if-better":
        if options.promote != "always":
            return PromotionDecision(False, "not promoted, as asked")
        return PromotionDecision(True, "promoted, as asked" + _said_lost(ledger, store, candidate))
    current = _current(ledger, store)
    figures = read_metadata(candidate).training.get("validation")
    if figures and is_flat(figures):
        return PromotionDecision(False, f"not promoted: {doubts(figures, name_rare=False)[0]}")
    if current is None:
        return PromotionDecision(True, "promoted: there was no version before")
    if current.classes != dataset.classes:
        return PromotionDecision(
            False,
            f"not promoted: the classes of the current version {current.version} are "
            f"{', '.join(current.classes)}, so the two cannot be compared",
        )
    try:
        folder = store.fetch(current.version, current.digest)
        metadata = read_metadata(folder)
        has_findings = dataset.findings is not None
        if metadata.has_findings != has_findings:
            kind = {False: "classes that exclude each other", True: "findings"}
            return PromotionDecision(
                False,
                f"not promoted: the current version {current.version} has "
                f"{kind[metadata.has_findings]}, this one {kind[has_findings]}, so the two cannot be "
                "compared",
            )
        if lost := score_change(metadata, read_metadata(candidate)):
            return PromotionDecision(
                False, f"not promoted: {lost}; 'xraycam models promote' promotes it nevertheless"
            )
        training = metadata.training
        known = trained_on(training, [dataset.sha256[index] for index in validation])
        unseen = [
            index
            for index, seen in zip(validation, known or [False] * len(validation), strict=True)
            if not seen
        ]
        left_out = len(validation) - len(unseen)
        if left_out and (min(dataset.counts(unseen).values()) < MIN_UNSEEN or dataset.one_sided(unseen)):
            return PromotionDecision(
                False,
                f"not promoted: {current.version} was trained on {left_out} of the {len(validation)} "
                "validation images, so no fair comparison is possible; 'xraycam models promote' decides it",
            )
        before = _auc_of(folder, dataset, unseen)
    except XraycamError as error:
        return PromotionDecision(False, f"not promoted: the current version cannot be measured: {error}")
    if not left_out:
        return apply_promotion_rule(auc, current.version, before, options.tolerance)
    decision = apply_promotion_rule(
        _auc_of(candidate, dataset, unseen), current.version, before, options.tolerance
    )
    note = f"; {left_out} images that {current.version} was trained on are left out"
    return replace(decision, reason=decision.reason + note)


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
        return ledger.query(current_model)


def _said_lost(ledger: Ledger, store: ModelStore, candidate: Path) -> str:
    """What to add to the sentence of a promotion that loses scores."""
    try:
        current = ledger.query(current_model)
        if current is None:
            return ""
        before = read_metadata(store.fetch(current.version, current.digest))
    except XraycamError:
        return ""
    lost = score_change(before, read_metadata(candidate))
    return f"; {lost}" if lost else ""


def _auc_of(folder: Path, dataset: LabelledDataset, indices: Sequence[int]) -> float:
    metadata, network = load_model(folder)
    scores = predict_logits(network, metadata.preprocessing, dataset, indices)
    probabilities = probabilities_from(scores, metadata.output, metadata.temperature)
    lead = leading_index(metadata.classes, metadata.positive_class)
    return roc_auc(dataset.truth(indices), probabilities, lead)
