"""What the programs share that the command line starts to work with a model on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from db.errors import LedgerError
from db.ledger import Ledger
from db.migrate import migrate
from db.models import get_model
from worker.errors import XraycamError
from worker.model.store import ensure_current_model, store_of
from worker.settings import Settings


def model_folder(settings: Settings, version: str | None) -> Path:
    """A checked copy of a version, or of the current one. Raises XraycamError or LedgerError."""
    ledger = Ledger(settings.database, retry_timeout=5.0)
    migrate(ledger)
    store = store_of(settings)
    model = get_model(ledger, version) if version else ensure_current_model(ledger, store)
    return store.fetch(model.version, model.digest)


def print_progress(text: str) -> None:
    """Say something to whoever waits."""
    print(text, flush=True)


def run_program(main: Callable[[], None]) -> None:
    """Run `main`; a user's mistake ends in one line and an exit status, not in a traceback."""
    try:
        main()
    except (XraycamError, LedgerError) as error:
        print_progress(f"xraycam: {error}")
        sys.exit(error.exit_status)
