"""Members of archives are seen and exported like files; exported labels are what `train` reads."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import update

from db.ingest import ScannedFile
from db.leases import record_results
from db.ledger import Ledger
from db.migrate import migrate
from db.reviews import save_review
from db.runs import Run
from db.schema import results
from producer.session import Session, open_session
from producer.viewer.labels import export_labels
from producer.viewer.report import ReportOptions, write_report
from producer.viewer.thumbnails import RunPictures
from tests.support.made_runs import lease, take
from tests.viewer.pages import ids
from worker.errors import ImageError
from worker.images.limits import Limits
from worker.settings import load_settings
from worker.train.dataset import load_labelled_folder

MEMBERS = [f"set.zip!/ward/m{number}.png" for number in range(3)]
FILES = ["plain.png"]


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    migrate(Ledger(load_settings().database))
    made = open_session()
    yield made
    made.ledger.close()


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    picture = Image.linear_gradient("L").resize((96, 80))
    picture.point(lambda value: min(255, value // 2 + shade)).save(buffer, "PNG")
    return buffer.getvalue()


def archive_run(ledger: Ledger, folder: Path, model: str = "first", predicted: str = "Normal") -> Run:
    """A run of three members of an archive and a file, all done."""
    root, output = folder / "xrays", folder / f"overlays-{model}"
    root.mkdir(exist_ok=True)
    if not (root / "set.zip").exists():
        with zipfile.ZipFile(root / "set.zip", "w") as archive:
            for number in range(3):
                archive.writestr(f"ward/m{number}.png", png(20 * number))
            archive.writestr("../out.png", png(99))
        (root / "plain.png").write_bytes(png(80))
    files = [ScannedFile(name, 10, 1000) for name in MEMBERS + FILES]
    run, _ = take(ledger, files, root=str(root), output=str(output), model_version=model)
    held = lease(ledger, run, 1)
    rows = []
    for image in held.images:
        overlay = Path(run.output) / f"{image.path}.jpg"
        overlay.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 100), "navy").save(overlay)
        rows.append(
            {
                "image_id": image.id, "status": "done", "class": predicted, "probability": 0.75,
                "score": 25.0, "threshold": 40.0, "decision": "do-not-refer", "odd": "inverted",
                "width": 96, "height": 80, "target_class": "Tuberculosis", "layer": "out_relu",
                "method": "gradcam", "model_version": model, "overlay": str(overlay),
            }
        )  # fmt: skip
    ledger.write(record_results, held, rows)
    return run


def rows_of(index: Path) -> list[dict[str, object]]:
    text = (index.parent / "data" / "rows-0001.js").read_text()
    found: list[dict[str, object]] = json.loads(
        text.removeprefix('xraycam.receive("rows",').removesuffix(");\n")
    )
    return found


def test_members_of_archives_have_originals_and_overlays_in_a_report(
    session: Session, tmp_path: Path
) -> None:
    made = write_report(session, archive_run(session.ledger, tmp_path), tmp_path / "report")
    assert (made.shown, made.without_picture) == (4, 0)
    for row in rows_of(made.index):
        for kind in ("original", "overlay"):
            with Image.open(made.index.parent / str(row[kind])) as picture:
                assert picture.size == (96, 80)


def test_no_member_is_read_by_a_name_that_leads_out_or_through_a_linked_folder(
    session: Session, tmp_path: Path
) -> None:
    run = archive_run(session.ledger, tmp_path)
    pictures = RunPictures(run, Limits())
    assert pictures.member(MEMBERS[1]) == png(20)
    assert pictures.member("plain.png") is None
    with pytest.raises(ImageError, match="lies outside"):
        pictures.member("set.zip!/../out.png")
    with pytest.raises(ImageError, match="no longer in its archive"):
        pictures.member("set.zip!/ward/none.png")
    outside = tmp_path / "outside"
    outside.mkdir()
    (Path(run.root) / "set.zip").rename(outside / "set.zip")
    (Path(run.root) / "linked").symlink_to(outside)
    with pytest.raises(ImageError):
        pictures.member("linked/set.zip!/ward/m0.png")
    with pytest.raises(ImageError):
        pictures.original({"path": "linked/set.zip!/ward/m0.png", "sha256": None}, 64)


def test_exported_members_are_files_of_their_own_that_train_reads_with_their_classes(
    session: Session, tmp_path: Path
) -> None:
    run = archive_run(session.ledger, tmp_path)
    known = ids(session.ledger, run)
    for path, verdict, name in (
        (MEMBERS[0], "agree", None), (MEMBERS[1], "disagree", "Tuberculosis"),
        (MEMBERS[2], "disagree", "Tuberculosis"), ("plain.png", "agree", None),
    ):  # fmt: skip
        session.ledger.write(save_review, run.id, known[path], "first", verdict, name, None)
    folder = tmp_path / "labels"
    said = list(export_labels(session, run, folder))
    assert said[:2] == ["Normal: 2", "Tuberculosis: 2"]
    assert not any(line.startswith("left out") for line in said)
    assert (folder / "Normal" / "set.zip" / "ward" / "m0.png").read_bytes() == png(0)
    assert (folder / "Normal" / "plain.png").is_symlink()
    dataset = load_labelled_folder(folder, min_per_class=1)
    found = {
        (dataset.classes[label], file.name) for label, file in zip(dataset.labels, dataset.files, strict=True)
    }
    assert found == {
        ("Normal", "m0.png"), ("Normal", "plain.png"), ("Tuberculosis", "m1.png"), ("Tuberculosis", "m2.png"),
    }  # fmt: skip
    assert dataset.skipped == ()


def test_a_member_that_is_gone_is_left_out_of_the_labels_and_counted(
    session: Session, tmp_path: Path
) -> None:
    run = archive_run(session.ledger, tmp_path)
    known = ids(session.ledger, run)
    for path in (MEMBERS[0], "plain.png"):
        session.ledger.write(save_review, run.id, known[path], "first", "agree", None, None)
    (Path(run.root) / "set.zip").unlink()
    said = list(export_labels(session, run, tmp_path / "labels"))
    assert "left out: 1 (the file cannot be read below the folder of the run)" in said


def test_an_image_that_has_changed_since_it_was_explained_gets_no_label(
    session: Session, tmp_path: Path
) -> None:
    run = archive_run(session.ledger, tmp_path)
    known = ids(session.ledger, run)
    explained = {"sha256": hashlib.sha256(png(80)).hexdigest()}
    with_hash = update(results).where(results.c.image_id == known["plain.png"]).values(explained)
    session.ledger.write(lambda connection: connection.execute(with_hash))
    for path in (MEMBERS[0], "plain.png"):
        session.ledger.write(save_review, run.id, known[path], "first", "agree", None, None)
    (Path(run.root) / "plain.png").write_bytes(png(99))
    said = list(export_labels(session, run, tmp_path / "labels"))
    assert "left out: 1 (the file has changed since it was explained)" in said
    assert not (tmp_path / "labels" / "Normal" / "plain.png").exists()


def test_two_runs_of_one_folder_stand_side_by_side(session: Session, tmp_path: Path) -> None:
    first = archive_run(session.ledger, tmp_path)
    second = archive_run(session.ledger, tmp_path, "second", predicted="Tuberculosis")
    assert first.id != second.id
    made = write_report(session, first, tmp_path / "report", ReportOptions(other=second))
    for row in rows_of(made.index):
        other = row["other"]
        assert isinstance(other, dict)
        assert (row["class"], other["class"], other["version"]) == ("Normal", "Tuberculosis", "second")
        assert (made.index.parent / str(other["overlay"])).is_file()
