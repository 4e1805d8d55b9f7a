"""Which findings the models of a run know, and how many of its images have each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.errors import LedgerError
from worker.errors import XraycamError

if TYPE_CHECKING:
    from db.ledger import Ledger
    from db.runs import Run
    from producer.session import Session
    from worker.settings import Settings


def findings_of(session: Session, run: Run) -> tuple[str, ...]:
    """As `findings_of_run`."""
    return findings_of_run(session.ledger, session.settings, run)


def findings_of_run(ledger: Ledger, settings: Settings, run: Run) -> tuple[str, ...]:
    """Names of findings that do not exclude each other, of the versions that made the run's results; none
    where these have classes, or are gone."""
    from db.models import get_model
    from db.results import model_versions_of_run
    from worker.model.metadata import read_metadata
    from worker.model.store import store_of

    store, names = store_of(settings), dict[str, None]()
    for version in ledger.query(model_versions_of_run, run.id):
        try:
            model = ledger.query(get_model, version)
            metadata = read_metadata(store.fetch(model.version, model.digest))
        except (XraycamError, LedgerError):
            continue
        if metadata.has_findings:
            names |= dict.fromkeys(metadata.classes)
    return tuple(names)
