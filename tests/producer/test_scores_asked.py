"""Results asked by score where there is none are refused: an empty file would read as "none suspicious"."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from db.leases import record_results
from db.ledger import Ledger
from db.migrate import migrate
from db.models import promote_model
from producer.cli import cli
from tests.support.made_runs import lease, some_files, take
from tests.support.starter_versions import add_version
from worker.errors import XraycamError
from worker.settings import load_settings


@pytest.fixture
def ours(home: Path) -> Ledger:
    """The ledger that commands use."""
    assert not home.exists()
    ledger = Ledger(load_settings().database)
    migrate(ledger)
    return ledger


def record(ledger: Ledger, number: int, run: Any, version: str, **columns: Any) -> None:
    held = lease(ledger, run, number)
    rows = [
        {"image_id": image.id, "status": "done", "model_version": version, **columns} for image in held.images
    ]
    ledger.write(record_results, held, rows)


def results(*options: str) -> Result:
    return CliRunner().invoke(cli, ["results", "--format", "csv", *options])


@pytest.mark.parametrize("option", [("--min-score", "50"), ("--sort", "-score"), ("--sort", "decision")])
def test_a_run_without_scores_refuses_to_be_asked_by_them(ours: Ledger, option: tuple[str, str]) -> None:
    run, _ = take(ours, some_files(3))
    assert results(*option).exit_code == 0, "nothing is done yet"
    record(ours, 1, run, "plain-1")
    refused = results(*option).exception
    assert isinstance(refused, XraycamError)
    assert str(refused).startswith(
        f"{' '.join(option)}: run 1 has no scores, for its model plain-1 has no positive class; train"
    )


def test_a_run_with_scores_gives_none_above_the_highest_and_has_decisions_only_with_a_threshold(
    ours: Ledger,
) -> None:
    run, _ = take(ours, some_files(3))
    record(ours, 1, run, "scored-1", score=20.0)
    found = results("--min-score", "50")
    assert (found.exit_code, len(found.stdout.splitlines())) == (0, 1)
    refused = results("--sort", "decision").exception
    assert isinstance(refused, XraycamError)
    assert "run 1 has no threshold" in str(refused)


def test_versions_of_one_run_that_score_differently_are_named(ours: Ledger, tmp_path: Path) -> None:
    run, _ = take(ours, some_files(8))
    add_version(ours, tmp_path / "a", "scored-1")
    add_version(ours, tmp_path / "b", "plain-1", positive_class=None, operating_points=())
    record(ours, 1, run, "scored-1", score=80.0)
    record(ours, 2, run, "plain-1")
    found = results("--min-score", "50")
    assert found.exit_code == 0
    assert len(found.stdout.splitlines()) == 5
    assert "score different classes (plain-1 none, scored-1 Tuberculosis)" in " ".join(found.stderr.split())


def test_the_promotion_of_a_version_without_scores_says_what_is_lost(ours: Ledger, tmp_path: Path) -> None:
    add_version(ours, tmp_path / "a", "scored-1")
    add_version(ours, tmp_path / "b", "plain-1", positive_class=None, operating_points=())
    ours.write(promote_model, "scored-1")
    lost = "scored-1 has scores of Tuberculosis, plain-1 has none"
    for command, said in ((("promote", "plain-1"), True), (("rollback",), False)):
        done = CliRunner().invoke(cli, ["models", *command])
        assert done.exit_code == 0, done.output
        assert (lost in " ".join(done.stderr.split())) is said
