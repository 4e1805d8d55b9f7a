"""What `results` and `retry` say beside their answer: of several models, and of what else is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

import producer.commands.run
from db.leases import record_results
from db.ledger import Ledger
from db.migrate import migrate
from db.runs import CANCELLED, Run, set_state
from producer.cli import cli
from tests.support.made_runs import finish, lease, some_files, take
from worker.settings import load_settings


@pytest.fixture
def ours(home: Path) -> Ledger:
    ledger = Ledger(load_settings().database)
    migrate(ledger)
    return ledger


def explained_by(ledger: Ledger, versions: Sequence[str]) -> Run:
    run, _ = take(ledger, some_files(len(versions)), chunk_size=1, model_version=versions[0])
    for number, version in enumerate(versions, start=1):
        finish(ledger, lease(ledger, run, number), model_version=version, probability=0.5)
    return run


@pytest.mark.parametrize("how", [[], ["--format", "csv"], ["--per", "study"]])
def test_results_of_several_models_are_said_to_be_of_several(ours: Ledger, how: list[str]) -> None:
    explained_by(ours, ["first", "second", "first"])
    said = CliRunner().invoke(cli, ["results", *how], catch_exceptions=False)
    assert "run 1 was explained by 2 models (first, second)" in said.stderr


def test_results_of_one_model_need_no_word(ours: Ledger) -> None:
    explained_by(ours, ["first", "first"])
    assert CliRunner().invoke(cli, ["results"], catch_exceptions=False).stderr == ""


def test_a_retry_says_what_else_of_a_cancelled_run_is_done(
    ours: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(producer.commands.run, "send_or_run_here", lambda *_: 0)
    run, _ = take(ours, some_files(6), chunk_size=4)
    held = lease(ours, run, 1)
    rows = [{"image_id": image.id, "status": "failed", "reason": "missing"} for image in held.images[:3]]
    ours.write(record_results, held, rows)
    ours.write(set_state, run.id, CANCELLED)
    said = CliRunner().invoke(cli, ["retry", str(run.id)]).stderr
    assert "run 1: 3 images to retry, and 3 images that had no result yet" in said
