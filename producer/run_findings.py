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
    """Names of findings that do not exclude each other, of the versions that made the run's results; none
    where these have classes, or are gone."""
    return _read(session.ledger, session.settings, run)[0]


def findings_if_known(ledger: Ledger, settings: Settings, run: Run) -> tuple[str, ...] | None:
    """The same; None where a version is gone that would say it, as for
    `worker.explain.decision.findings_seen`."""
    names, is_whole = _read(ledger, settings, run)
    return names if is_whole else None


def _read(ledger: Ledger, settings: Settings, run: Run) -> tuple[tuple[str, ...], bool]:
    """The names, and whether all versions could be read."""
    from db.models import get_model
    from db.results import model_versions_of_run
    from worker.model.metadata import read_metadata
    from worker.model.store import store_of

    store, names, is_whole = store_of(settings), dict[str, None](), True
    for version in ledger.query(model_versions_of_run, run.id):
        try:
            model = ledger.query(get_model, version)
            metadata = read_metadata(store.fetch(model.version, model.digest))
        except (XraycamError, LedgerError):
            is_whole = False
            continue
        if metadata.has_findings:
            names |= dict.fromkeys(metadata.classes)
    return tuple(names), is_whole
