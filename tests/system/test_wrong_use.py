"""A mistake ends in one line that says what is wrong and how to fix it; never in a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from db.runs import CANCELLED, SCANNING, set_state
from producer.enqueue import Request, enqueue
from tests.support.installation import Installation, draw_many, refused
from worker.settings import Settings


def test_missing_and_empty_folders_are_named(installation: Installation) -> None:
    assert "nowhere" in refused(installation, "run", "nowhere")
    (installation.folder / "void").mkdir()
    assert "holds no image" in refused(installation, "run", "void")
    (installation.folder / "void" / "notes.txt").write_text("no image")
    assert "such as notes.txt" in refused(installation, "run", "void")


def test_unknown_layer_class_model_and_run_are_answered_with_what_is_known(
    installation: Installation,
) -> None:
    xrays = draw_many(installation.folder / "xrays", 1)
    assert "block_15_add" in refused(installation, "run", xrays, "--layer", "block_15_ad")
    assert "Normal, Tuberculosis" in refused(installation, "run", xrays, "--target", "TB")
    assert "known: small" in refused(installation, "run", xrays, "--model", "big")
    assert "xraycam runs" in refused(installation, "results", 7)
    assert installation.counts() == {"images": 0}


def test_servers_that_do_not_answer_are_named_without_their_password(installation: Installation) -> None:
    xrays = draw_many(installation.folder / "xrays", 1)
    installation.set(broker_url="redis://:hush-hush@127.0.0.1:1/0")
    message = refused(installation, "enqueue", xrays)
    assert "XRAYCAM_BROKER_URL" in message
    assert "hush" not in message
    installation.set(database_url="postgresql+psycopg://me:hush-hush@127.0.0.1:1/x")
    message = refused(installation, "runs")
    assert "XRAYCAM_DATABASE_URL" in message
    assert "hush" not in message


def test_enqueue_without_a_broker_names_the_setting_and_the_other_way(installation: Installation) -> None:
    xrays = draw_many(installation.folder / "xrays", 1)
    message = refused(installation, "enqueue", xrays)
    assert "XRAYCAM_BROKER_URL" in message
    assert "xraycam run" in message


def test_a_sqlite_ledger_with_a_broker_elsewhere_is_refused(installation: Installation) -> None:
    installation.set(broker_url="redis://10.1.2.3/0")
    assert "XRAYCAM_DATABASE_URL" in refused(installation, "runs")


def test_a_misspelt_setting_is_refused_with_the_near_name(installation: Installation) -> None:
    installation.set(chunk_sise=8)
    assert "XRAYCAM_CHUNK_SIZE" in refused(installation, "runs")


@pytest.mark.parametrize("fault", ["weights", "description", "missing"])
def test_a_damaged_model_is_refused_before_anything_is_enqueued(
    installation: Installation, fault: str
) -> None:
    xrays = draw_many(installation.folder / "xrays", 1)
    folder = installation.home / "models" / "small"
    if fault == "weights":
        damage(folder / "weights.safetensors")
    elif fault == "description":
        text = json.loads((folder / "model.json").read_text())
        (folder / "model.json").write_text(json.dumps(text | {"classes": ["B", "A"]}))
    else:
        folder.rename(folder.with_name("elsewhere"))
    assert "model small" in refused(installation, "run", xrays)
    assert installation.counts() == {"images": 0}


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_doctor_tells_all_at_once_and_fails_when_something_is_wrong(installation: Installation) -> None:
    fine = installation.xraycam("doctor").stdout
    assert "current is small" in fine
    installation.set(broker_url="redis://:hush@127.0.0.1:1/0")
    wrong = installation.xraycam("doctor", status=2).stdout
    assert "FAIL" in wrong
    assert "hush" not in wrong


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "xrays", "--output", "/proc/here"),
        ("results", "--format", "csv", "--output", "/proc/here/x.csv"),
        ("results", "--format", "parquet", "--output", "/proc/here/x.parquet"),
        ("models", "export", "small", "/proc/here"),
        ("evaluate", "labelled", "--output", "/proc/here"),
        ("preview", "labelled", "--output", "/proc/here/x.png"),
        ("compare", "xrays", "--output", "/proc/here"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    installation: Installation, arguments: tuple[str, ...]
) -> None:
    draw_many(installation.folder / "xrays", 1)
    draw_many(installation.folder / "labelled", 0)
    if arguments[0] == "results":
        known_run(installation)
    assert "/proc/here" in refused(installation, *arguments)


def known_run(installation: Installation) -> None:
    """A run that is scanned, and of which nothing is done."""
    settings = Settings(home=installation.home)
    enqueue(installation.ledger, settings, Request(installation.folder / "xrays"))


def test_a_class_or_reason_that_the_run_does_not_have_is_refused(installation: Installation) -> None:
    draw_many(installation.folder / "xrays", 1)
    known_run(installation)
    assert "none yet" in refused(installation, "results", "--class", "TB")
    assert "--reason late" in refused(installation, "results", "--reason", "late")


def test_filters_that_no_image_can_meet_together_are_refused(installation: Installation) -> None:
    draw_many(installation.folder / "xrays", 2)
    known_run(installation)
    for arguments in (["--status", "pending", "--min-score", "3"], ["--status", "done", "--reason", "empty"]):
        assert "goes with no --status" in installation.xraycam("results", *arguments, status=2).stderr


def test_results_say_that_images_have_none_yet(installation: Installation) -> None:
    draw_many(installation.folder / "xrays", 2)
    known_run(installation)
    note = "2 images of run 1 have no result"
    assert f"{note} yet\n" in installation.xraycam("results", "--sort", "-score").stderr
    assert note not in installation.xraycam("results", "--status", "pending").stderr
    studies = installation.xraycam("results", "--per", "study", "--format", "csv")
    assert f"{note} yet; a study may change" in studies.stderr
    assert ",2,0,0,,,,,0,pending" in studies.stdout
    installation.ledger.write(set_state, 1, CANCELLED)
    said = installation.xraycam("results", "--per", "patient").stderr
    assert f"{note}, it was cancelled: 'xraycam resume 1' does the rest; a patient may change" in " ".join(
        said.split()
    )
    installation.ledger.write(set_state, 1, SCANNING)
    assert "does not know all its files" in installation.xraycam("results").stderr


def test_a_run_whose_scan_was_interrupted_is_not_taken_for_complete(installation: Installation) -> None:
    draw_many(installation.folder / "xrays", 1)
    known_run(installation)
    installation.ledger.write(set_state, 1, SCANNING)
    message = refused(installation, "resume", 1)
    assert f"xraycam run {installation.folder}/xrays" in message
    assert "being scanned" in installation.xraycam("watch", 1, "--once").stdout


def test_colours_can_be_changed_only_where_heatmaps_were_kept(installation: Installation) -> None:
    draw_many(installation.folder / "xrays", 1)
    known_run(installation)
    assert "--heatmaps" in refused(installation, "recolour", 1)
