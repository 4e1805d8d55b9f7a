"""A run to work on."""

from __future__ import annotations

import pytest

from db.ledger import Ledger
from db.runs import Run
from tests.support.made_runs import some_files, take


@pytest.fixture
def run_of_ten(ledger: Ledger) -> Run:
    """A run of ten images in chunks of four, four and two."""
    run, _ = take(ledger, some_files(10))
    return run
