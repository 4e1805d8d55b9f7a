"""Which findings the models of a run know, and how many of its images have each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.errors import LedgerError
from worker.errors import XraycamError

if TYPE_CHECKING:
    from db.runs import Run
    from producer.session import Session


def findings_of(session: Session, run: Run) -> tuple[str, ...]:
    """Names of findings that do not exclude each other, of the versions that made the run's results; none
    where these have classes, or are gone."""
    from db.models import get_model
    from db.results import model_versions_of_run
    from worker.model.metadata import read_metadata
    from worker.model.store import store_of

    store, names = store_of(session.settings), dict[str, None]()
    for version in session.ledger.query(model_versions_of_run, run.id):
        try:
            model = session.ledger.query(get_model, version)
            metadata = read_metadata(store.fetch(model.version, model.digest))
        except (XraycamError, LedgerError):
            continue
        if metadata.output == "sigmoid":
            names |= dict.fromkeys(metadata.classes)
    return tuple(names)
