"""Whether a run has the scores or decisions that its results are asked by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.errors import XraycamError

if TYPE_CHECKING:
    from db.results import Filter
    from db.runs import Run
    from producer.session import Session


def check_scores(session: Session, run: Run, chosen: Filter) -> None:
    """Images without a score are never among those above one: where no image of the run has one, an empty
    answer would read as 'none is suspicious'.

    Raises XraycamError where `chosen` asks by score or decision and no done image has any; says on standard
    error which versions of the run gave none, or one of another class.
    """
    from db.results import Filter, read_predictions

    column = None if chosen.sort is None else chosen.sort.removeprefix("-")
    by_decision = column in ("threshold", "decision")
    if chosen.min_score is None and column != "score" and not by_decision:
        return
    done = next(read_predictions(session.ledger, Filter(run=run.id, status="done", limit=1)), None)
    if done is None:
        return
    option = f"--sort {chosen.sort}" if chosen.min_score is None else f"--min-score {chosen.min_score:g}"
    scored = next(read_predictions(session.ledger, Filter(run=run.id, min_score=0, limit=1)), None)
    if scored is None:
        raise XraycamError(
            f"{option}: run {run.id} has no scores, for its model {done['model_version']} has no positive "
            "class; train or import one with --positive CLASS, or choose by --class and --min-probability"
        )
    if by_decision and scored["threshold"] is None:
        raise XraycamError(
            f"{option}: run {run.id} has no threshold, and so no decisions; run its folder with --threshold, "
            "--operating-point or --site"
        )
    _tell_differing(session, run)


def _tell_differing(session: Session, run: Run) -> None:
    """Say that not all versions of a run score the same class."""
    from db.errors import LedgerError
    from db.models import get_model
    from db.results import model_versions_of_run
    from worker.model.metadata import read_metadata
    from worker.model.store import store_of

    versions = session.ledger.query(model_versions_of_run, run.id)
    if len(versions) < 2:
        return
    store, positive = store_of(session.settings), {}
    for version in versions:
        try:
            model = session.ledger.query(get_model, version)
            positive[version] = read_metadata(store.fetch(model.version, model.digest)).positive_class
        except (XraycamError, LedgerError):
            continue
    if len(set(positive.values())) > 1:
        each = ", ".join(f"{version} {name or 'none'}" for version, name in positive.items())
        session.tell(
            f"the versions of run {run.id} score different classes ({each}): images without a score are in "
            "no --min-score, and others cannot be compared"
        )
