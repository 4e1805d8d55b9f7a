"""Runs from and to an S3 server, by the command line with workers as processes."""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import func, select

from db.schema import images, results
from producer.cli import SOME_FAILED
from tests.support.fault_runs import children, leased_chunks
from tests.support.installation import Installation, draw_many, refused
from tests.support.object_store import BUCKET, KEY_ID, SECRET_KEY, SESSION_TOKEN, ObjectStore
from tests.support.servers import wait_until

pytestmark = pytest.mark.slow


def upload(store: ObjectStore, folder: Path, prefix: str = "in") -> None:
    for file in sorted(folder.iterdir()):
        store.put(f"{prefix}/{file.name}", file.read_bytes())


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    image = Image.linear_gradient("L").resize((32, 32))
    image.putpixel((0, 0), shade)
    image.save(buffer, "PNG")
    return buffer.getvalue()


def predictions(made: Installation, run: int = 1) -> dict[str, dict[str, str]]:
    """Rows by path, relative to the run's root."""
    done = made.xraycam("results", run, "--format", "json", "--limit", 10000)
    return {row["path"].removeprefix(f"s3://{BUCKET}/in/"): row for row in json.loads(done.stdout)}


def test_a_prefix_is_explained_to_a_folder_and_a_changed_object_again(
    made: Installation, object_store: ObjectStore, tmp_path: Path
) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 20))
    for key in ("a b/ü 胸.png", "x%2Fy.png", "../up.png", "two//parts.png", "notes.txt", "folder/"):
        object_store.put(f"in/{key}", picture(200) if "." in key else b"")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/one.png", picture(20))
        archive.writestr("a/two.png", picture(30))
    object_store.put("in/box.zip", buffer.getvalue())
    asked = ("run", f"s3://{BUCKET}/in/", "--output", tmp_path / "overlays")
    first = made.xraycam(*asked)
    assert "24 images, 24 new" in first.stderr
    assert "2 keys that are no path" in first.stderr
    rows = predictions(made)
    assert len(rows) == 24
    for path in ("a b/ü 胸.png", "x%2Fy.png", "image-0003.png", "box.zip!/a/two.png"):
        assert rows[path]["status"] == "done"
        assert Path(rows[path]["overlay"]).is_file()
        assert rows[path]["overlay"] == f"{tmp_path}/overlays/run-000001/{path}.jpg"

    object_store.put("in/image-0003.png", picture(99))
    object_store.put("in/image-0004.png", object_store.get("in/image-0004.png"))
    object_store.delete("in/image-0005.png")
    second = made.xraycam(*asked)
    assert "0 new, 22 done already, 1 changed, 0 to retry" in second.stderr
    assert "1 image of the run is no longer in the folder" in second.stderr
    again = predictions(made)
    changed = [path for path, row in rows.items() if again[path]["finished_at"] != row["finished_at"]]
    assert changed == ["image-0003.png"]
    assert again["image-0003.png"]["sha256"] != rows["image-0003.png"]["sha256"]


def test_overlays_heatmaps_and_table_go_to_a_bucket_and_every_command_finds_them(
    made: Installation, object_store: ObjectStore, tmp_path: Path
) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 12))
    made.set(output=f"s3://{BUCKET}/overlays")
    done = made.xraycam("run", f"s3://{BUCKET}/in", "--heatmaps")
    assert f"overlays: s3://{BUCKET}/overlays/run-000001" in done.stdout
    assert f"s3://{BUCKET}/overlays/run-000001/predictions.csv" in done.stdout
    assert "without a picture" not in done.stderr
    report = made.home / "reports" / "run-000001" / "xraycam-report"
    assert len(list(report.glob("pictures/*/*-overlay.webp"))) == 12
    assert len(list(report.glob("pictures/*/*-original.webp"))) == 12

    rows = predictions(made)
    keys = set(object_store.listed("overlays/run-000001/"))
    for path, row in rows.items():
        assert row["overlay"] == f"s3://{BUCKET}/overlays/run-000001/{path}.jpg"
        assert {row["overlay"], row["heatmap"]} <= {f"s3://{BUCKET}/{key}" for key in keys}
    image = Image.open(io.BytesIO(object_store.get("overlays/run-000001/image-0000.png.jpg")))
    assert image.format == "JPEG"
    table = object_store.get("overlays/run-000001/predictions.csv").decode()
    assert len(list(csv.DictReader(io.StringIO(table)))) == 12
    assert not [file for file in made.folder.rglob("*.jpg") if "xrays" not in str(file)]
    assert "s3:" not in [entry.name for entry in made.folder.iterdir()]

    for command in (("report", "--output"), ("results", "--format", "csv", "--output")):
        assert "is a URL, which is not taken here" in refused(made, *command, f"s3://{BUCKET}/elsewhere")
    assert not (made.folder / "s3:").exists()
    before = object_store.get("overlays/run-000001/image-0000.png.jpg")
    assert (
        "12 overlays of run 1 in viridis, 0 left" in made.xraycam("recolour", "--colormap", "viridis").stdout
    )
    assert object_store.get("overlays/run-000001/image-0000.png.jpg") != before
    assert "complete, 12 of 12 done" in made.xraycam("watch", "--once").stdout
    assert str(report) in made.xraycam("report").stdout
    assert "12 done already" in made.xraycam("run", f"s3://{BUCKET}/in", "--heatmaps").stderr
    made.xraycam("runs", "delete", 1, "--overlays", "--yes")
    assert object_store.listed("overlays/") == []


def test_a_chunk_is_begun_before_the_last_is_written_and_a_worker_killed_there_loses_none(
    made: Installation, object_store: ObjectStore, tmp_path: Path
) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 80))
    made.set(lease_timeout=5)
    made.without_tensorflow(0.02)
    running = made.start("run", f"s3://{BUCKET}/in", "--no-report", "--output", f"s3://{BUCKET}/overlays")
    wait_until(lambda: len(leased_chunks(made)) > 1, 60, "two chunks held by one worker")
    (child,) = children(made)
    made.kill(child)
    wait_until(lambda: running.poll() is not None, 120, "the run ends")
    assert running.returncode == 0, made.logs()
    assert made.counts() == {"images": 80, "done": 80}
    written = {f"s3://{BUCKET}/{key}" for key in object_store.listed("overlays/") if key.endswith(".jpg")}
    assert written == {row["overlay"] for row in predictions(made).values()}


def test_a_worker_told_to_stop_begins_no_other_chunk(
    distributed: Installation, object_store: ObjectStore, tmp_path: Path
) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 300))
    distributed.environment |= object_store.environment
    distributed.set(chunk_size=8, shutdown_grace_period=20, output=f"s3://{BUCKET}/overlays")
    distributed.without_tensorflow(0.05)
    worker = distributed.start("worker")
    distributed.xraycam("enqueue", f"s3://{BUCKET}/in")
    wait_until(lambda: len(leased_chunks(distributed)) > 1, 60, "two chunks held by one worker")
    worker.terminate()
    assert worker.wait(60) == 0
    assert "does not end" not in distributed.logs()
    assert 0 < distributed.counts()["done"] < 200
    with distributed.ledger.read() as connection:
        begun = connection.execute(
            select(func.count()).where(images.c.attempts > 0, ~images.c.id.in_(select(results.c.image_id)))
        ).scalar_one()
    assert begun == 0, "what was begun was finished"


def test_overlays_below_the_images_are_not_taken_for_images(
    made: Installation, object_store: ObjectStore, tmp_path: Path
) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 3))
    asked = ("run", f"s3://{BUCKET}/in", "--no-report", "--output", f"s3://{BUCKET}/in/overlays")
    made.xraycam(*asked)
    assert len(object_store.listed("in/overlays/run-000001/")) == 5
    assert "3 images, 0 new, 3 done already" in made.xraycam(*asked).stderr
    said = refused(made, "run", f"s3://{BUCKET}/in", "--output", f"s3://{BUCKET}/in")
    assert "would be taken for images" in said


def test_a_prefix_of_another_ledger_is_not_written_over(
    made: Installation, object_store: ObjectStore, tmp_path: Path
) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 2))
    object_store.put("overlays/run-000001/xraycam-run.json", b"theirs")
    made.xraycam("run", f"s3://{BUCKET}/in", "--no-report", "--output", f"s3://{BUCKET}/overlays")
    assert object_store.get("overlays/run-000001/xraycam-run.json") == b"theirs"
    assert len(object_store.listed("overlays/run-000002/")) == 4


def test_a_single_object_is_explained(made: Installation, object_store: ObjectStore, tmp_path: Path) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 3))
    done = made.xraycam("run", f"s3://{BUCKET}/in/image-0001.png", "--no-report")
    assert "1 image, 1 new" in done.stderr
    assert list(predictions(made)) == ["image-0001.png"]


def test_what_cannot_be_used_is_refused_in_one_line(
    made: Installation, object_store: ObjectStore, tmp_path: Path
) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 2))
    here = f"s3://{BUCKET}/in"
    assert "s3://not-there/x cannot be listed: there is no such bucket" in refused(
        made, "run", "s3://not-there/x"
    )
    assert "holds no image" in refused(made, "run", f"s3://{BUCKET}/empty")
    said = refused(made, "run", here, "--output", "s3://not-there/x")
    assert "s3://not-there/x" in said
    assert "there is no such bucket" in said
    assert "--masks is not possible" in refused(made, "run", here, "--masks", tmp_path)
    for url in (
        f"s3://{KEY_ID}:hidden@{BUCKET}/in",
        f"s3://{BUCKET}/in?sig=hidden",
        "https://h/x?sig=hidden",
    ):
        for said in (refused(made, "run", url), refused(made, "run", here, "--output", url)):
            assert "hidden" not in said
            assert KEY_ID not in said
    assert "s3:" in refused(made, "train", here, "--wait")
    assert not (made.folder / "s3:").exists()
    object_store.fail(403)
    assert f"{here} cannot be listed: access is denied (403)" in refused(made, "run", here)
    object_store.heal()
    object_store.fail(403, "/overlays", method="PUT")
    said = refused(made, "run", here, "--output", f"s3://{BUCKET}/overlays")
    assert f"s3://{BUCKET}/overlays/run-000001 cannot be written to: access is denied" in said
    object_store.heal()
    made.set(output="s3://me:hidden@bucket/x")
    said = refused(made, "run", here)
    assert "XRAYCAM_OUTPUT=(not shown)" in said
    assert "hidden" not in said


def test_objects_that_cannot_be_read_fail_with_their_reason(
    made: Installation, object_store: ObjectStore, tmp_path: Path
) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 10))
    object_store.put("in/empty.png", b"")
    object_store.put("in/new\nline.png", b"which the server lists and does not find")
    object_store.fail(403, "image-0003.png", method="GET")
    object_store.fail(403, "image-0004.png.jpg", method="PUT")
    done = made.xraycam(
        "run", f"s3://{BUCKET}/in", "--no-report", "--output", f"s3://{BUCKET}/overlays", status=None
    )
    assert done.returncode == SOME_FAILED
    failed = {path: row["reason"] for path, row in predictions(made).items() if row["status"] == "failed"}
    assert failed == {
        "image-0003.png": "unreadable",
        "image-0004.png": "write-failed",
        "empty.png": "empty",
        "new\nline.png": "missing",
    }
    assert all("\n" not in (row["error"] or "") for row in predictions(made).values())
    object_store.heal()
    made.xraycam(
        "run", f"s3://{BUCKET}/in", "--no-report", "--output", f"s3://{BUCKET}/overlays", status=SOME_FAILED
    )
    assert made.counts() == {"images": 12, "done": 10, "failed": 2}


def test_credentials_are_written_nowhere(
    made: Installation, object_store: ObjectStore, tmp_path: Path
) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 20))
    object_store.fail(503, "image-0003.png", times=2)
    object_store.fail(403, "image-0004.png", method="GET")
    done = made.xraycam(
        "run", f"s3://{BUCKET}/in", "--output", f"s3://{BUCKET}/overlays", "--heatmaps", status=None
    )
    said = [done.stdout, done.stderr, made.xraycam("doctor", status=None).stdout]
    said += [made.xraycam("results", "--format", "json").stdout, made.xraycam("workers").stdout]
    made.environment["AWS_ENDPOINT_URL"] = object_store.url.replace("//", "//planted:userinfo@")
    tried = made.xraycam("run", f"s3://{BUCKET}/other", status=None)
    said += [tried.stdout, tried.stderr]
    logs = list(made.home.glob("logs/*.log"))
    assert logs
    written = [file.read_bytes() for file in made.home.rglob("*") if file.is_file()]
    object_store.heal()
    written += [object_store.get(key) for key in object_store.listed()]
    for secret in (KEY_ID, SECRET_KEY, SESSION_TOKEN, "userinfo", "Signature="):
        for text in said:
            assert secret not in text
        for content in written:
            assert secret.encode() not in content


def test_a_storage_that_is_away_is_waited_for(
    made: Installation, object_store: ObjectStore, tmp_path: Path
) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 120))
    made.without_tensorflow(0.05)
    running = made.start("run", f"s3://{BUCKET}/in", "--no-report", "--output", f"s3://{BUCKET}/overlays")
    made.wait_done(16)
    object_store.stop()
    time.sleep(10)
    assert made.counts().get("failed", 0) == 0
    assert running.poll() is None
    object_store.start()
    wait_until(lambda: running.poll() is not None, 120, "the run ends")
    assert running.returncode == 0, made.logs()
    assert made.counts() == {"images": 120, "done": 120}


@pytest.mark.parametrize("fault", ["slow-down", "cut"])
def test_busy_answers_and_cut_connections_fail_no_image(
    made: Installation, object_store: ObjectStore, tmp_path: Path, fault: str
) -> None:
    upload(object_store, draw_many(tmp_path / "xrays", 40))
    for number in range(0, 40, 4):
        for key, method in ((f"in/image-{number:04}", "GET"), (f"run-000001/image-{number:04}", "PUT")):
            if fault == "cut":
                object_store.cut(key, times=2, method=method)
            else:
                object_store.fail(503, key, times=2, method=method)
    made.xraycam("run", f"s3://{BUCKET}/in", "--no-report", "--output", f"s3://{BUCKET}/overlays")
    assert made.counts() == {"images": 40, "done": 40}
    assert len([key for key in object_store.listed("overlays/") if key.endswith(".jpg")]) == 40
