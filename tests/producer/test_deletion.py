"""Runs and model versions deleted by the command line: what goes, what stays, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from db.deletion import cancel_for_deletion, delete_run
from db.errors import DeletionRefused, ModelNotFound, RunNotFound
from db.ingest import RunIngest
from db.leases import lease_chunk, record_results, release_lease
from db.ledger import Ledger
from db.migrate import migrate
from db.models import Model, add_model, get_model, promote_model
from db.operating_points import save_site_threshold, site_threshold
from db.runs import get_run, open_run
from db.schema import chunks, images, results, runs
from db.trainings import add_training
from producer.cli import cli
from tests.support.made_runs import finish, lease, open_some_run, some_files, take
from worker.model.store import store_of
from worker.our_folders import RUN_MARKER
from worker.settings import Settings, load_settings
from worker.train.options import is_taken


@pytest.fixture
def ours(home: Path, model_store: Callable[[Ledger, Path], Model]) -> Ledger:
    """The ledger that commands use, with the model `small`."""
    ledger = Ledger(load_settings().database)
    migrate(ledger)
    model_store(ledger, home)
    return ledger


@pytest.fixture
def settings(home: Path) -> Settings:
    assert home.parent.is_dir()
    return load_settings()


def command(*given: object) -> Any:
    return CliRunner().invoke(cli, [str(one) for one in given])


def rows(ledger: Ledger) -> list[int]:
    with ledger.read() as connection:
        return [
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (runs, chunks, images, results)
        ]


def test_a_run_is_deleted_with_all_its_rows_and_its_number_is_not_given_again(ledger: Ledger) -> None:
    first, _ = take(ledger, some_files(4))
    second, _ = take(ledger, some_files(4), root="/other")
    finish(ledger, lease(ledger, first, 1))
    finish(ledger, lease(ledger, second, 1))
    ledger.write(cancel_for_deletion, second.id)
    assert ledger.write(delete_run, second.id) == 4
    assert rows(ledger) == [1, 1, 4, 4]
    assert take(ledger, some_files(1), root="/other")[0].id == second.id + 1
    with pytest.raises(RunNotFound):
        ledger.write(cancel_for_deletion, second.id)


def test_a_run_is_not_deleted_while_a_worker_holds_a_chunk_of_it(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(4))
    held = lease(ledger, run, 1)
    for refused in (cancel_for_deletion, delete_run):
        with pytest.raises(DeletionRefused, match="one works on it; 'xraycam cancel 1' stops it"):
            ledger.write(refused, run.id)
    assert ledger.query(get_run, run.id).state == "open"
    ledger.write(release_lease, held, "one")
    ledger.write(cancel_for_deletion, run.id)
    assert not hasattr(ledger.write(lease_chunk, run.id, 1, "two", 60), "images")
    ledger.write(delete_run, run.id)
    assert rows(ledger) == [0, 0, 0, 0]


def test_a_scan_whose_run_is_deleted_meanwhile_says_so(ledger: Ledger) -> None:
    run, is_new = open_some_run(ledger)
    ingest = RunIngest(ledger, run, is_new=is_new)
    ledger.write(cancel_for_deletion, run.id)
    ledger.write(delete_run, run.id)
    with pytest.raises(RunNotFound, match="was deleted while its folder was scanned"):
        ingest.add(some_files(3))


def run_with_overlays(ledger: Ledger, folder: Path) -> Path:
    """A run of three images, two done with overlays in its folder, beside a file of somebody's."""
    run, is_new = ledger.write(
        open_run,
        root="/archive",
        output=str(folder),
        options={},
        model_version="small",
        pinned=False,
        chunk_size=4,
    )
    ingest = RunIngest(ledger, run, is_new=is_new)
    ingest.add(some_files(3))
    ingest.close()
    held = lease(ledger, run, 1)
    output = Path(run.output)
    (output / "ward").mkdir(parents=True)
    (output / "predictions.csv").touch()
    (output / RUN_MARKER).touch()
    found: list[dict[str, Any]] = [
        {"image_id": image.id, "status": "done", "overlay": f"{output}/{image.path}.jpg"}
        for image in held.images
    ]
    found[2]["overlay"] = str(folder / "elsewhere.jpg")  # as a damaged ledger may say
    for row in found:
        Path(row["overlay"]).touch()
    ledger.write(record_results, held, found)
    return output


def test_overlays_stay_unless_asked_for(ours: Ledger, tmp_path: Path) -> None:
    output = run_with_overlays(ours, tmp_path / "overlays")
    said = command("runs", "delete", 1, "--yes")
    assert said.exit_code == 0, said.output
    assert "3 rows of images, 3 results; kept: overlays in" in said.stderr
    assert said.stdout == "run 1 deleted\n"
    assert len(list(output.rglob("*.jpg"))) == 2
    assert rows(ours) == [0, 0, 0, 0]


def test_overlays_that_were_asked_for_go_and_files_of_others_stay(ours: Ledger, tmp_path: Path) -> None:
    output = run_with_overlays(ours, tmp_path / "overlays")
    said = command("runs", "delete", 1, "--yes", "--overlays")
    assert said.stdout == "run 1 deleted, 3 files removed\n"
    assert not output.exists()
    assert (tmp_path / "overlays" / "elsewhere.jpg").exists()
    output = run_with_overlays(ours, tmp_path / "overlays")
    (output / "ward" / "notes.txt").touch()
    said = command("runs", "delete", 2, "--yes", "--overlays")
    assert said.stdout == f"run 2 deleted, 3 files removed; 1 other file left in {output}\n"


def test_nothing_is_deleted_unasked(ours: Ledger, tmp_path: Path) -> None:
    run_with_overlays(ours, tmp_path / "overlays")
    said = command("runs", "delete", 1)
    assert said.exit_code != 0
    assert "add --yes" in str(said.exception)
    assert rows(ours) == [1, 1, 3, 3]


def add(ledger: Ledger, version: str) -> None:
    ledger.write(add_model, version=version, digest="0" * 64, classes=("a", "b"), source="s", metrics={})


def test_a_version_is_deleted_with_its_folder(ours: Ledger, settings: Settings) -> None:
    add(ours, "other")
    ours.write(promote_model, "other")
    store = store_of(settings)
    kept = store.fetch("small", ours.query(get_model, "small").digest)
    said = command("models", "delete", "small", "--yes")
    assert said.stdout == "model small deleted\n", said.exception
    assert not store.exists("small")
    assert not kept.exists()
    with pytest.raises(ModelNotFound):
        ours.query(get_model, "small")


def test_a_version_that_is_current_or_needed_is_not_deleted(ours: Ledger) -> None:
    assert "it is current" in str(command("models", "delete", "small", "--yes").exception)
    assert "there is no model 'huge'" in str(command("models", "delete", "huge", "--yes").exception)
    add(ours, "other")
    run, is_new = open_some_run(ours, model_version="other", pinned=True)
    ingest = RunIngest(ours, run, is_new=is_new)
    assert "run 1 (scanning)" in str(command("models", "delete", "other", "--yes").exception)
    ingest.add(some_files(2))
    ingest.close()
    assert "run 1 (open) is to be explained by it" in str(
        command("models", "delete", "other", "--yes").exception
    )
    finish(ours, lease(ours, run, 1))
    ours.write(add_training, dataset="/d", recipe={}, init_weights="other", options={}, epochs=1)
    refusal = str(command("models", "delete", "other", "--yes").exception)
    assert "training 1 starts from it" in refusal
    assert ours.query(get_model, "other").version == "other"


def test_thresholds_of_a_version_go_with_it_and_are_named(ours: Ledger) -> None:
    add(ours, "other")
    ours.write(promote_model, "other")
    digest = ours.query(get_model, "small").digest
    for site in ("south", "north"):
        ours.write(
            save_site_threshold, site=site, model_version="small", digest=digest, threshold=40.0, figures={}
        )
    said = command("models", "delete", "small", "--yes")
    assert "its thresholds go, too: those of north, south" in said.stderr
    assert said.stdout == "model small deleted, and its thresholds of north, south\n"
    with ours.read() as connection:
        assert site_threshold(connection, "north", "small") is None


def brought(settings: Settings, digest: str, place: Path, **changed: str) -> Path:
    """A model folder like `small`, with other content."""
    folder = store_of(settings).fetch("small", digest)
    place.mkdir()
    for file in folder.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    metadata = json.loads((place / "model.json").read_text()) | changed
    (place / "model.json").write_text(json.dumps(metadata))
    return place


def test_a_deleted_version_s_name_is_not_given_to_another_model_while_its_results_are_there(
    ours: Ledger, settings: Settings, tmp_path: Path
) -> None:
    digest = ours.query(get_model, "small").digest
    retrained = brought(settings, digest, tmp_path / "retrained", created="2021-03-04T05:06:07+01:00")
    same = brought(settings, digest, tmp_path / "same")
    (same / "model.json").write_bytes((store_of(settings).fetch("small", digest) / "model.json").read_bytes())
    add(ours, "other")
    ours.write(promote_model, "other")
    run, _ = take(ours, some_files(4), model_version="small", pinned=True)
    finish(ours, lease(ours, run, 1), model_version="small")
    assert command("models", "delete", "small", "--yes").exit_code == 0
    refused = command("models", "import", retrained, "--promote")
    assert "small is the name of another model, deleted since, that run 1 bears" in str(refused.exception)
    assert not store_of(settings).exists("small")
    assert is_taken(ours, store_of(settings), "small")  # for a training
    assert command("models", "import", same).exit_code == 0
    assert ours.query(get_model, "small").digest == digest


def test_a_run_of_a_deleted_version_is_not_taken_up(ours: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    add(ours, "other")
    run, _ = take(ours, some_files(8), model_version="other", pinned=True)
    finish(ours, lease(ours, run, 1), "failed", reason="unreadable", model_version="other")
    assert command("cancel", run.id).exit_code == 0
    assert command("models", "delete", "other", "--yes").exit_code == 0
    monkeypatch.setattr("producer.commands.run.send_or_run_here", lambda *_: pytest.fail("taken up"))
    for words in (("resume", run.id), ("resume",), ("retry", run.id)):
        refusal = str(command(*words).exception)
        assert f"run {run.id} is to be explained by model other, which was deleted; import that" in refusal
        assert "\n" not in refusal
        assert ours.query(get_run, run.id).state == "cancelled"


def test_models_shows_when_a_model_was_made(ours: Ledger, settings: Settings, tmp_path: Path) -> None:
    digest = ours.query(get_model, "small").digest
    created = "2021-03-04T05:06:07+01:00"
    made = brought(settings, digest, tmp_path / "brought", version="brought", created=created)
    assert command("models", "import", made).exit_code == 0
    assert f"{ours.query(get_model, 'brought').created_at:%Y-%m-%d %H:%M}" == "2021-03-04 04:06"
    assert "2021-03-04 04:06" in command("models").stdout
