"""Several classes of an image are told only where the model says that it may have several."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, select

from db.leases import record_results
from db.ledger import Ledger
from db.migrate import migrate
from db.reviews import save_review
from db.runs import Run
from db.schema import images, models
from producer.agreement import agreement_lines
from producer.cli import cli
from producer.run_findings import findings_of
from producer.session import open_session
from producer.viewer.facts import run_facts
from tests.support.installation import unavailable
from tests.support.made_runs import lease, some_files, take
from tests.support.starter_versions import add_version
from worker.dicom_results.result import Result
from worker.settings import load_settings

PAGES = Path(__file__).parents[2] / "producer" / "viewer" / "pages"
# What networks with a sigmoid for each class say of four images.
SAID = ((0.9, 0.8), (0.6, 0.7), (0.9, 0.2), (0.4, 0.3))


def run_of(home: Path, folder: Path, *, exclusive: bool) -> tuple[Ledger, Run]:
    assert home.name == "home"
    ledger = Ledger(load_settings().database)
    migrate(ledger)
    add_version(ledger, folder, "sigmoid-1", output="sigmoid", exclusive=exclusive)
    run, _ = take(ledger, some_files(4))
    held = lease(ledger, run, 1)
    rows = []
    for image, said in zip(held.images, SAID, strict=True):
        probabilities = dict(zip(("Normal", "Tuberculosis"), said, strict=True))
        best = max(probabilities, key=lambda name: probabilities[name])
        seen = exclusive or probabilities[best] >= 0.5
        rows.append(
            {
                "image_id": image.id,
                "status": "done",
                "model_version": "sigmoid-1",
                "class": best if seen else "no finding",
                "probability": probabilities[best] if seen else None,
                "probabilities": probabilities,
            }
        )
    ledger.write(record_results, held, rows)
    return ledger, run


def lines(*options: str) -> list[str]:
    done = CliRunner().invoke(cli, ["results", *options])
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines()


def test_of_exclusive_classes_the_most_probable_alone_is_told_and_counted(home: Path, tmp_path: Path) -> None:
    _, run = run_of(home, tmp_path / "v", exclusive=True)
    session = open_session()
    assert findings_of(session, run) == ()
    facts = run_facts(session, run)
    assert (facts["findings"], facts["classes"]) == ([], ["Normal", "Tuberculosis"])
    assert facts["counts"]["classes"] == {"Normal": 3, "Tuberculosis": 1}
    assert len(lines("--class", "Tuberculosis", "--format", "jsonl")) == 1
    assert not any("Normal, Tuberculosis" in line for line in lines())


def test_of_findings_all_are_told_and_counted_and_readers_may_say_none(home: Path, tmp_path: Path) -> None:
    _, run = run_of(home, tmp_path / "v", exclusive=False)
    facts = run_facts(open_session(), run)
    assert facts["findings"] == ["Normal", "Tuberculosis"]
    assert facts["classes"] == ["Normal", "Tuberculosis", "no finding"], "an imported model has no figures"
    assert facts["counts"]["classes"] == {"Normal": 3, "Tuberculosis": 2, "no finding": 1}
    assert len(lines("--class", "Tuberculosis", "--format", "jsonl")) == 2
    assert any("Normal, Tuberculosis" in line for line in lines())


def test_where_the_version_is_gone_that_would_say_it_all_are_told(home: Path, tmp_path: Path) -> None:
    ledger, run = run_of(home, tmp_path / "v", exclusive=False)
    with ledger.engine.begin() as connection:
        connection.execute(delete(models).where(models.c.version == "sigmoid-1"))
    assert not run_facts(open_session(), run)["findings_known"]
    assert any("Normal, Tuberculosis" in line for line in lines())


def test_a_reader_who_names_another_of_the_findings_seen_agrees_with_the_model(
    home: Path, tmp_path: Path
) -> None:
    ledger, run = run_of(home, tmp_path / "v", exclusive=False)
    with ledger.read() as connection:
        ours = select(images.c.id).where(images.c.run_id == run.id)
        known = sorted(connection.execute(ours).scalars())
    said = (("disagree", "Tuberculosis"), ("agree", None), ("disagree", "Tuberculosis"), ("agree", None))
    for image, (verdict, name) in zip(known, said, strict=True):
        ledger.write(save_review, run.id, image, "first", verdict, name, None)
    told = list(agreement_lines(open_session(), run))
    assert "model against first, Tuberculosis: sensitivity 0.67 (2 of 3)" in told
    assert "model against first, no finding: sensitivity 1.00 (1 of 1)" in told
    assert "a reader names one finding of an image, and denies no other: there is no specificity" in told


def test_a_dicom_result_of_exclusive_classes_tells_one() -> None:
    row = {
        "class": "Normal", "probability": 0.9, "probabilities": {"Normal": 0.9, "Tuberculosis": 0.8},
        "model_version": "v", "finished_at": None,
    }  # fmt: skip
    assert Result.from_row(row, ()).predicted == (("Normal", 0.9),)
    assert len(Result.from_row(row, ("Normal", "Tuberculosis")).predicted) == 2


@pytest.mark.parametrize(
    ("findings", "said"), [("[]", "Normal"), ('["Normal", "B"]', "Normal, B"), ("null", "Normal, B")]
)
def test_the_pages_tell_several_only_of_findings(findings: str, said: str) -> None:
    if (node := shutil.which("node")) is None:
        unavailable("no Node.js here")
    script = (
        "globalThis.window = globalThis; globalThis.xraycam = {};"
        f"{(PAGES / 'elements.js').read_text()};"
        f"xraycam.findings = {findings};"
        "console.log(xraycam.predicted({class: 'Normal', probabilities: {Normal: 0.9, B: 0.8}}));"
    )
    done = subprocess.run([node, "-e", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == said, done.stderr
