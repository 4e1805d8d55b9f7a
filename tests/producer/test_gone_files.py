"""Files deleted after a folder was enqueued: said, marked, and unmarked when they are back."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from db.gone_files import IdSet, count_gone
from db.ledger import Ledger
from db.migrate import migrate
from db.models import Model
from db.results import Filter, read_predictions
from db.runs import list_runs
from producer.cli import cli
from producer.enqueue import Request, enqueue, preview
from producer.run_summary import summarize
from producer.session import Session
from tests.support.made_runs import finish, lease
from worker.settings import Settings, load_settings


@pytest.fixture
def settings(home: Path) -> Settings:
    assert home.parent.is_dir()
    return load_settings()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    for number in range(9):
        file = folder / f"ward{number % 2}" / f"x{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * (number + 1))
    return folder


@pytest.fixture
def ours(settings: Settings, home: Path, model_store: Callable[[Ledger, Path], Model]) -> Ledger:
    """The ledger that commands use, with a model."""
    ledger = Ledger(settings.database)
    migrate(ledger)
    model_store(ledger, home)
    return ledger


def gone(ledger: Ledger) -> list[str]:
    rows = read_predictions(ledger, Filter(run=1))
    return sorted(row["path"].rpartition("/")[2] for row in rows if row["gone_at"] is not None)


def test_deleted_files_are_counted_and_marked_and_unmarked_when_back(
    ledger: Ledger,
    settings: Settings,
    archive: Path,
    home: Path,
    model_store: Callable[[Ledger, Path], Model],
) -> None:
    model_store(ledger, home)
    assert enqueue(ledger, settings, Request(archive)).gone == 0
    moved = (archive / "ward0" / "x0.png").rename(archive / "ward1" / "moved.png")
    (archive / "ward1" / "x1.png").unlink()
    again = enqueue(ledger, settings, Request(archive))
    assert (again.ingested.new, again.ingested.unchanged, again.gone) == (1, 7, 2)
    assert gone(ledger) == ["x0.png", "x1.png"]
    with ledger.read() as connection:
        assert count_gone(connection, 1) == {None: 2}
    moved.rename(archive / "ward0" / "x0.png")
    assert enqueue(ledger, settings, Request(archive)).gone == 2
    assert gone(ledger) == ["moved.png", "x1.png"]


def test_files_left_out_by_a_pattern_or_by_naming_one_file_are_not_gone(
    ours: Ledger, settings: Settings, archive: Path
) -> None:
    enqueue(ours, settings, Request(archive))
    assert enqueue(ours, settings, Request(archive, globs=("x1*",))).gone == 0
    assert enqueue(ours, settings, Request(archive / "ward0")).gone == 0
    assert enqueue(ours, settings, Request(archive / "ward0" / "x0.png")).gone == 0
    (archive / "ward1" / "x1.png").unlink()
    (archive / "ward0" / "x0.png").unlink()
    (archive / "ward1" / "x1-b.png").touch()
    assert enqueue(ours, settings, Request(archive, globs=("x1*",))).gone == 1
    assert gone(ours) == []
    assert enqueue(ours, settings, Request(archive)).gone == 2
    assert gone(ours) == ["x0.png", "x1.png"]


def test_members_removed_from_an_archive_that_was_named_are_gone(
    ours: Ledger, settings: Settings, archive: Path
) -> None:
    zipped(archive / "a.zip", "m1.png", "m2.png")
    request = Request(archive / "a.zip")
    assert enqueue(ours, settings, request).ingested.new == 2
    zipped(archive / "a.zip", "m2.png")
    assert preview(ours, settings, request).gone == 1
    assert enqueue(ours, settings, request).gone == 1
    assert gone(ours) == ["m1.png"]


def zipped(file: Path, *names: str) -> None:
    with zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(name, b"x" * 50)


def test_members_are_gone_when_removed_or_with_their_archive_and_not_when_it_cannot_be_listed(
    ours: Ledger, settings: Settings, archive: Path
) -> None:
    zipped(archive / "a.zip", "in/m1.png", "in/m2.png")
    zipped(archive / "ward0" / "b.zip", "m3.png")
    assert enqueue(ours, settings, Request(archive)).ingested.new == 12

    whole = (archive / "a.zip").read_bytes()
    (archive / "a.zip").write_bytes(whole[:60])
    cut = enqueue(ours, settings, Request(archive))
    assert (cut.ingested.new, cut.gone) == (1, 0)  # new: the archive itself, to fail with its reason

    zipped(archive / "a.zip", "in/m2.png")
    assert enqueue(ours, settings, Request(archive)).gone == 1
    assert gone(ours) == ["m1.png"]
    (archive / "ward0" / "b.zip").unlink()
    enqueue(ours, settings, Request(archive))
    assert gone(ours) == ["m1.png", "m3.png"]
    (archive / "a.zip").write_bytes(whole)
    assert enqueue(ours, settings, Request(archive)).gone == 1
    assert gone(ours) == ["m3.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_files_in_a_folder_that_cannot_be_read_are_not_gone(
    ours: Ledger, settings: Settings, archive: Path
) -> None:
    enqueue(ours, settings, Request(archive))
    (archive / "ward1").chmod(0)
    try:
        assert enqueue(ours, settings, Request(archive)).gone == 0
    finally:
        (archive / "ward1").chmod(0o755)


def test_dry_run_says_what_the_same_command_does_and_leaves_nothing(
    ours: Ledger, settings: Settings, archive: Path
) -> None:
    enqueue(ours, settings, Request(archive))
    (archive / "late.png").touch()
    (archive / "ward0" / "x0.png").write_bytes(b"changed")
    (archive / "ward1" / "x1.png").unlink()
    (archive / "ward1" / "masks").mkdir()
    (archive / "ward1" / "masks" / "x3.png").touch()
    before = ours.query(list_runs)
    said = CliRunner().invoke(cli, ["run", str(archive), "--dry-run"], catch_exceptions=False)
    assert said.stdout.splitlines() == [
        f"would enqueue 9 images of {archive} in 1 chunk: run 1, continued, model small",
        "of 9 images found (0.0 MB): 1 new, 0 done already, 7 pending, 1 changed, 0 to retry",
        "1 image of the run is no longer in the folder; its result stays, with gone_at set",
    ]
    assert "skipped: 1 mask" in said.stderr
    assert ours.query(list_runs) == before
    assert gone(ours) == []
    done = enqueue(ours, settings, Request(archive))
    assert (done.ingested.new, done.ingested.pending, done.ingested.changed, done.gone) == (1, 7, 1, 1)


@pytest.mark.parametrize("per", ["study", "patient"])
def test_rows_by_study_say_that_they_count_deleted_files(
    ours: Ledger, settings: Settings, archive: Path, per: str
) -> None:
    enqueue(ours, settings, Request(archive))
    (archive / "ward1" / "x1.png").unlink()
    enqueue(ours, settings, Request(archive))
    said = CliRunner().invoke(cli, ["results", "--per", per, "--format", "csv"], catch_exceptions=False)
    assert f"1 image of run 1 is no longer in {archive}: the rows by {per} count it still" in said.stderr


def test_a_summary_counts_decisions_and_oddness_of_the_files_that_are_there(
    ours: Ledger, settings: Settings, archive: Path
) -> None:
    run = enqueue(ours, settings, Request(archive)).run
    finish(ours, lease(ours, run, 1), decision="refer", odd="inverted", **{"class": "Tuberculosis"})
    (archive / "ward1" / "x1.png").unlink()
    enqueue(ours, settings, Request(archive))
    shown = Console(file=StringIO(), width=200)
    summarize(Session(settings, ours, shown, Console(file=StringIO())), run)
    assert isinstance(shown.file, StringIO)
    lines = [" ".join(line.split()) for line in shown.file.getvalue().splitlines()]
    assert {"Tuberculosis 8", "odd: inverted 8", "refer: 8 images"} <= set(lines)
    assert "file deleted since (gone_at is set) 1" in lines


def test_dry_run_makes_no_output_folder(ours: Ledger, archive: Path, tmp_path: Path) -> None:
    assert ours.query(list_runs) == []
    given = ["run", str(archive), "--dry-run", "--output", str(tmp_path / "new" / "overlays")]
    CliRunner().invoke(cli, given, catch_exceptions=False)
    assert not (tmp_path / "new").exists()


def test_a_set_of_row_numbers_holds_what_was_put_in() -> None:
    numbers = {1, 4095, 4096, 10**12}
    held = IdSet()
    held.update(numbers)
    assert {one for one in (0, 1, 2, 4095, 4096, 4097, 10**12, 10**12 + 1) if one in held} == numbers
