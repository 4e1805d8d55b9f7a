"""What becomes current is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from db.ledger import Ledger
from db.migrate import migrate
from db.models import current_model, promote_model
from producer.cli import cli
from tests.support.starter_versions import add_version
from worker.settings import load_settings


@pytest.mark.parametrize("command", [("rollback",), ("promote", "first-1")])
def test_a_version_whose_folder_is_gone_does_not_become_current(
    home: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    ledger = Ledger(load_settings().database)
    migrate(ledger)
    for version in ("first-1", "second-1"):
        add_version(ledger, tmp_path / version, version)
        ledger.write(promote_model, version)
    shutil.rmtree(home / "models" / "first-1")
    done = CliRunner().invoke(cli, ["models", *command])
    assert done.exit_code != 0
    assert "first-1" in str(done.exception)
    found = ledger.query(current_model)
    assert found is not None
    assert found.version == "second-1"
