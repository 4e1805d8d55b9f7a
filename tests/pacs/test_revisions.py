"""Which report is the current one at a PACS: after another threshold and back, after a corrected patient."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import update

from db.ledger import Ledger
from db.runs import Run
from db.schema import results
from producer.pacs.export import ExportOptions, export_run
from producer.pacs.outgoing import TAKEN, Fate, Outgoing, refused
from tests.pacs.orthanc import studies
from tests.support.made_runs import finish, lease, some_files, take
from worker.settings import load_settings

REPORTS = ExportOptions(frozenset({"report"}))


class Pacs:
    """Keeps what it is sent, in that order, unless it is `closed`."""

    keeps = True

    def __init__(self, name: str = "dicom://PACS@host:104") -> None:
        self.name = name
        self.has: list[Dataset] = []
        self.closed = False

    def send(self, objects: Sequence[Outgoing]) -> list[Fate]:
        if self.closed:
            return [refused("closed") for _ in objects]
        self.has += [dcmread(io.BytesIO(item.content)) for item in objects]
        return [TAKEN] * len(objects)

    def close(self) -> None:
        pass

    @property
    def current(self) -> Dataset:
        """The one report that no other revises."""
        revised = {uid for one in self.has for uid in predecessors(one)}
        (found,) = [one for one in self.has if one.SOPInstanceUID not in revised]
        return found


def predecessors(report: Dataset) -> list[str]:
    return [
        str(item.ReferencedSOPInstanceUID)
        for study in report.get("PredecessorDocumentsSequence", [])
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]


def decision_of(report: Dataset) -> str:
    texts = {str(element.value) for element in report.iterall() if element.VR != "SQ"}
    (found,) = texts & {"refer", "do-not-refer"}
    return found


def explained(ledger: Ledger, folder: Path, content: bytes) -> Run:
    """A run with one image, explained at threshold 28."""
    run, _ = take(ledger, some_files(1), root=str(folder))
    file = folder / some_files(1)[0].path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    told: dict[str, Any] = {
        "class": "Tuberculosis",
        "probability": 0.3,
        "score": 30.0,
        "model_version": "tb-3",
    }
    finish(ledger, lease(ledger, run, 1), sha256=hashlib.sha256(content).hexdigest(), **told)
    return run


def export_at(ledger: Ledger, run: Run, threshold: float, pacs: Pacs) -> tuple[int, int]:
    """How many reports were sent, and how many were there already."""
    decision = "refer" if threshold <= 30 else "do-not-refer"
    with ledger.engine.begin() as connection:
        connection.execute(update(results).values(threshold=threshold, decision=decision))
    counts = export_run(ledger, load_settings(), run, pacs, REPORTS, print)
    assert not counts.failed
    return counts.fates["sent"], counts.unchanged


@pytest.mark.usefixtures("home")
def test_going_back_to_an_earlier_threshold_is_a_new_revision_once(ledger: Ledger, tmp_path: Path) -> None:
    run, pacs = explained(ledger, tmp_path / "xrays", studies(tmp_path / "drawn", 1)[0]), Pacs()
    for threshold, decision in ((28, "refer"), (40, "do-not-refer"), (28, "refer"), (40, "do-not-refer")):
        assert export_at(ledger, run, threshold, pacs) == (1, 0)
        assert decision_of(pacs.current) == decision
        assert export_at(ledger, run, threshold, pacs) == (0, 1)
    for earlier, later in zip(pacs.has, pacs.has[1:], strict=False):
        assert predecessors(later) == [earlier.SOPInstanceUID]


@pytest.mark.usefixtures("home")
def test_a_revision_that_was_refused_is_the_same_when_it_is_sent_again(
    ledger: Ledger, tmp_path: Path
) -> None:
    run, pacs = explained(ledger, tmp_path / "xrays", studies(tmp_path / "drawn", 1)[0]), Pacs()
    for threshold in (28, 40):
        export_at(ledger, run, threshold, pacs)
    pacs.closed = True
    assert export_at(ledger, run, 28, pacs) == (0, 0)
    pacs.closed = False
    assert export_at(ledger, run, 28, pacs) == (1, 0)
    assert predecessors(pacs.current) == [pacs.has[1].SOPInstanceUID]
    assert export_at(ledger, run, 28, pacs) == (0, 1)


@pytest.mark.usefixtures("home")
def test_each_target_has_the_current_report_whatever_another_was_sent(ledger: Ledger, tmp_path: Path) -> None:
    run = explained(ledger, tmp_path / "xrays", studies(tmp_path / "drawn", 1)[0])
    first, second = Pacs(), Pacs("dicom://OTHER@host:104")
    for threshold in (28, 40):
        export_at(ledger, run, threshold, first)
    # A copy of what the first has, in its order, is the same objects.
    for threshold in (28, 40):
        assert export_at(ledger, run, threshold, second) == (1, 0)
    assert [one.SOPInstanceUID for one in second.has] == [one.SOPInstanceUID for one in first.has]
    # One that was made first, but comes here after what revised it, is no current one as it was.
    third = Pacs("dicom://THIRD@host:104")
    for threshold, decision in ((40, "do-not-refer"), (28, "refer")):
        assert export_at(ledger, run, threshold, third) == (1, 0)
        assert decision_of(third.current) == decision


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("keyword", "value"), [("PatientID", "RIGHT"), ("PatientName", "Right"), ("StudyInstanceUID", "1.2.3.4")]
)
def test_corrected_patient_or_study_gets_its_own_report(
    ledger: Ledger, tmp_path: Path, keyword: str, value: str
) -> None:
    content = studies(tmp_path / "drawn", 1)[0]
    pacs = Pacs()
    export_at(ledger, explained(ledger, tmp_path / "wrong", content), 28, pacs)
    corrected = dcmread(io.BytesIO(content))
    setattr(corrected, keyword, value)
    stream = io.BytesIO()
    corrected.save_as(stream)
    run = explained(ledger, tmp_path / "right", stream.getvalue())
    assert export_at(ledger, run, 28, pacs) == (1, 0)
    assert pacs.has[-1][keyword].value == value
    # What was said of one patient is no earlier version of what is said of another.
    assert not predecessors(pacs.has[-1])
    assert export_at(ledger, run, 28, pacs) == (0, 1)
