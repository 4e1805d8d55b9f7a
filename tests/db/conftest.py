"""A run to work on."""

from __future__ import annotations

import pytest
from made_runs import some_files, take

from db.ledger import Ledger
from db.runs import Run


@pytest.fixture
def run_of_ten(ledger: Ledger) -> Run:
    """A run of ten images in chunks of four, four and two."""
    run, _ = take(ledger, some_files(10))
    return run
