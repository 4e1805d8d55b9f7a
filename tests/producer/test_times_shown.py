"""Times in tables are those of the ledger, and say in which zone they are."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from db.ledger import Ledger
from db.migrate import migrate
from producer.cli import cli
from worker.settings import load_settings


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("command", "column"),
    [("runs", "started (UTC)"), ("trainings", "requested (UTC)"), ("models", "created (UTC)")],
)
def test_a_table_says_that_its_times_are_utc(command: str, column: str) -> None:
    migrate(Ledger(load_settings().database))
    assert column in CliRunner().invoke(cli, [command], catch_exceptions=False).stdout
