"""People delete folders of studies, as the message of a full spool tells them to; and cancel runs."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from db.deletion import delete_run
from db.ledger import Ledger
from db.runs import CANCELLED, OPEN, STOPPED, Run, get_run, set_state
from producer.enqueue import Request
from producer.pacs.receiver import Receiver, is_done, state_of
from producer.pacs.spool import Spool, SpoolFull
from producer.pacs.station import Station, _Explained
from producer.session import Session
from tests.support.made_runs import finish, lease, some_files, take
from worker.settings import load_settings


class OneStudy(Station):
    """A station with one study, of which a run is open."""

    def __init__(self, ledger: Ledger) -> None:
        settings = load_settings()
        self.told = io.StringIO()
        console = Console(file=self.told, width=1000)
        receiver = Receiver(settings, 0, "STATION", [], "127.0.0.1")
        super().__init__(Session(settings, ledger, console, console), receiver, Request(Path()), 3600.0, None)
        self.folder = receiver.spool.root / "study"
        receiver.spool.write(self.folder / "a.dcm", b"a")
        self.run, _ = take(ledger, some_files(1), root=str(self.folder))
        self.study = _Explained(self.run, state_of(self.folder))
        self._open[self.folder] = self.study

    @property
    def has_open_studies(self) -> bool:
        return bool(self._open)


def state_in(ledger: Ledger, run: Run) -> str:
    with ledger.read() as connection:
        return get_run(connection, run.id).state


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("is_explained", [False, True])
@pytest.mark.parametrize("what", ["study", "all"])
def test_study_that_was_deleted_is_given_up_and_said_so(
    ledger: Ledger, is_explained: bool, what: str
) -> None:
    station = OneStudy(ledger)
    if is_explained:
        finish(ledger, lease(ledger, station.run, 1))
    station._tick(None)
    assert station.has_open_studies != is_explained
    station._open[station.folder] = station.study
    before = station.told.getvalue()
    shutil.rmtree(station.folder if what == "study" else station.folder.parent)
    station._tick(None)
    said = station.told.getvalue().removeprefix(before)
    assert f"run {station.run.id}: its study was deleted, {station.folder}; send it again" in said
    assert " done, " not in said
    assert not station.has_open_studies
    # No worker looks for its images any more; what was done before is left as it is.
    assert state_in(ledger, station.run) == (OPEN if is_explained else STOPPED)
    station._tick(None)
    assert station.told.getvalue().removeprefix(before) == said


@pytest.mark.usefixtures("home")
def test_study_that_is_deleted_at_its_end_is_not_said_to_be_done(ledger: Ledger) -> None:
    station = OneStudy(ledger)
    finish(ledger, lease(ledger, station.run, 1))
    shutil.rmtree(station.folder)
    station._look_at(station.folder)
    station._finish(station.folder, station.study)
    assert "1 done, 0 failed: its study was deleted" in station.told.getvalue()
    assert not station.has_open_studies


@pytest.mark.usefixtures("home")
def test_study_whose_run_was_cancelled_elsewhere_is_told_of_once_and_done_when_resumed(
    ledger: Ledger,
) -> None:
    station = OneStudy(ledger)
    for _ in range(2):
        ledger.write(set_state, station.run.id, CANCELLED)
        station._tick(None)
        station._tick(None)
        ledger.write(set_state, station.run.id, OPEN)
        station._tick(None)
    said = f"run {station.run.id} was cancelled: 1 image of its study without a result; 'xraycam resume"
    assert station.told.getvalue().count(said) == station.told.getvalue().count("\n") == 2
    finish(ledger, lease(ledger, station.run, 1))
    station._tick(None)
    assert "1 done, 0 failed" in station.told.getvalue()
    assert not station.has_open_studies


@pytest.mark.usefixtures("home")
def test_study_whose_run_was_deleted_is_not_taken_for_done(ledger: Ledger) -> None:
    station = OneStudy(ledger)
    ledger.write(delete_run, station.run.id)
    station._tick(None)
    assert "was deleted: its study is explained again" in station.told.getvalue()
    assert " done" not in station.told.getvalue()
    assert not station.has_open_studies
    assert not is_done(station.folder, state_of(station.folder))


def test_full_spool_takes_more_when_folders_are_deleted(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    spool.write(spool.file_of("a", "1"), b"x" * 60)
    with pytest.raises(SpoolFull):
        spool.write(spool.file_of("b", "2"), b"x" * 60)
    shutil.rmtree(tmp_path / "a")
    assert spool.write(spool.file_of("b", "2"), b"x" * 60)
    with pytest.raises(SpoolFull):
        spool.write(spool.file_of("c", "3"), b"x" * 60)


def test_file_that_is_replaced_counts_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    file = spool.file_of("a", "1")
    for letter in (b"x", b"y", b"z"):
        assert spool.write(file, letter * 60)
    assert spool.write(spool.file_of("a", "2"), b"x" * 40)
    with pytest.raises(SpoolFull):
        spool.write(file, b"x" * 61)
    assert file.read_bytes() == b"z" * 60


def test_write_that_failed_counts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, 100)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        for number in range(3):
            with pytest.raises(OSError, match="No space"):
                spool.write(spool.file_of("a", str(number)), b"x" * 60)
    assert spool._size == 0
    assert spool.write(spool.file_of("a", "1"), b"x" * 100)
