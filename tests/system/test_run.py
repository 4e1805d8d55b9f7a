"""`xraycam run`: a folder in, overlays and a table out, on a machine with nothing but Python."""

from __future__ import annotations

import csv
import signal
from pathlib import Path

from PIL import Image

from tests.support.installation import Installation, draw_many, draw_xrays
from tests.support.servers import wait_until


def test_run_explains_every_image_and_leaves_no_process(installation: Installation) -> None:
    xrays = draw_xrays(installation.folder / "xrays", 20)
    (xrays / "deeper").mkdir()
    for file in sorted(xrays.glob("*.png"))[:5]:
        file.rename(xrays / "deeper" / file.name)

    done = installation.xraycam("run", xrays)

    assert installation.counts() == {"images": 20, "done": 20}
    output = installation.home / "overlays" / "run-000001"
    overlays = sorted(path.relative_to(output) for path in output.rglob("*.jpg"))
    assert overlays == sorted(Path(f"{path.relative_to(xrays)}.jpg") for path in xrays.rglob("*.png"))
    with Image.open(output / overlays[0]) as overlay:
        assert overlay.width == 200  # wide enough for its caption; the radiograph has 128
        assert overlay.height > 128
    with (output / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 20
    for row in rows:
        assert row["status"] == "done"
        assert row["class"] in ("Normal", "Tuberculosis")
        assert 0.5 <= float(row["probability"]) <= 1
        assert row["layer"] == "block_12_add"
        assert len(row["sha256"]) == 64
        assert Path(row["overlay"]).is_file()
    for place in (str(output), "predictions.csv", "ledger.sqlite3"):
        assert place in done.stdout
    wait_until(lambda: not installation.processes(), 10, "no process left")


def test_run_by_several_processes_with_measured_batches_is_the_same(installation: Installation) -> None:
    xrays = draw_xrays(installation.folder / "xrays", 20)
    (xrays / "text.png").write_text("a letter, not an image")
    columns = "path,sha256,class,score,logit,heatmap_max,reason"
    found = []
    for number, settings in enumerate(({"processes": 1}, {"processes": 2, "batch_size": "auto"}), 1):
        installation.set(**settings)
        installation.xraycam("run", xrays, "--force", "--no-report", status=3)
        rows = installation.xraycam("results", str(number), "--columns", columns, "--format", "csv").stdout
        found.append(sorted(rows.splitlines()))
    output = installation.home / "overlays"
    files = [sorted((output / f"run-00000{number}").glob("*.jpg")) for number in (1, 2)]
    assert len(files[0]) == len(files[1]) == 20
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]
    assert found[0] == found[1]
    wait_until(lambda: not installation.processes(), 10, "no process left")


def test_bad_files_fail_with_their_reason_and_take_no_other_with_them(installation: Installation) -> None:
    xrays = draw_xrays(installation.folder / "xrays", 10)
    good = (xrays / "phantom-0001.png").read_bytes()
    (xrays / "empty.png").write_bytes(b"")
    (xrays / "cut.png").write_bytes(good[: len(good) // 2])
    (xrays / "text.png").write_text("a letter, not an image")
    Image.new("L", (1, 200)).save(xrays / "narrow.png")
    (xrays / "export.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 100)

    done = installation.xraycam("run", xrays, status=3)

    assert "failed: truncated" in done.stdout
    assert installation.counts() == {"images": 15, "done": 10, "failed": 5}
    found = installation.xraycam("results", "--status", "failed", "--format", "csv").stdout
    rows = {Path(row["path"]).name: row for row in csv.DictReader(found.splitlines())}
    assert {name: row["reason"] for name, row in rows.items()} == {
        "empty.png": "empty",
        "cut.png": "truncated",
        "text.png": "not-an-image",
        "narrow.png": "too-small",
        "export.dcm": "truncated",  # a preamble and zeros, as a copy that broke off leaves it
    }
    assert all(name in row["error"] for name, row in rows.items())


def test_the_same_folder_again_does_only_what_is_new_or_changed(installation: Installation) -> None:
    installation.without_tensorflow()
    xrays = draw_many(installation.folder / "xrays", 12)
    installation.xraycam("run", xrays)
    before = {path: path.stat().st_mtime_ns for path in installation.home.rglob("*.jpg")}
    Image.linear_gradient("L").resize((40, 40)).save(xrays / "image-0003.png")
    Image.linear_gradient("L").resize((40, 40)).save(xrays / "new.png")

    again = installation.xraycam("run", xrays)

    assert "continues run 1: 13 images, 1 new, 11 done already, 1 changed" in again.stderr
    assert installation.counts() == {"images": 13, "done": 13}
    after = {path: path.stat().st_mtime_ns for path in installation.home.rglob("*.jpg")}
    written = {path.name for path, moment in after.items() if before.get(path) != moment}
    assert written == {"image-0003.png.jpg", "new.png.jpg"}

    installation.xraycam("run", xrays, "--force")
    assert installation.counts(2) == {"images": 13, "done": 13}


def test_failed_images_are_tried_again_on_demand(installation: Installation) -> None:
    installation.without_tensorflow()
    xrays = draw_many(installation.folder / "xrays", 6)
    (xrays / "late.png").write_bytes(b"")
    installation.xraycam("run", xrays, status=3)
    Image.linear_gradient("L").resize((32, 32)).save(xrays / "late.png")

    assert "failed in it: empty (1)" in installation.xraycam("retry", 1, "--reason", "truncated").stderr
    installation.xraycam("retry", 1, "--reason", "empty")

    assert installation.counts() == {"images": 7, "done": 7}


def test_an_interrupted_run_ends_cleanly_and_resumes(installation: Installation) -> None:
    xrays = draw_many(installation.folder / "xrays", 200)
    installation.set(chunk_size=8)
    installation.without_tensorflow(0.05)
    process = installation.start("run", xrays)
    wait_until(lambda: installation.home.exists() and installation.some_done(16), 60, "some images done")

    process.send_signal(signal.SIGTERM)

    assert process.wait(40) == 130
    assert "xraycam resume 1" in (installation.folder / "stderr.txt").read_text()
    wait_until(lambda: not installation.processes(), 10, "no process left")
    assert installation.counts()["done"] < 200
    assert not [path for path in installation.home.glob("overlays/**/*") if path.name.startswith(".")]
    installation.xraycam("resume", 1)
    assert installation.counts() == {"images": 200, "done": 200}


def test_several_layers_give_one_strip_and_keep_their_heatmaps(installation: Installation) -> None:
    xrays = draw_xrays(installation.folder / "xrays", 2)
    installation.xraycam(
        "run", xrays, "--layer", "block_12_add", "--layer", "out_relu", "--heatmaps", "--target", "Normal",
        "--output-format", "png", "--colormap", "blue-red",
    )  # fmt: skip
    output = installation.home / "overlays" / "run-000001"
    with Image.open(output / "phantom-0001.png.png") as strip:
        assert strip.width >= 3 * 128
    assert (output / "phantom-0001.png.npz").stat().st_size < 10_000
    rows = csv.DictReader(installation.xraycam("results", "--format", "csv").stdout.splitlines())
    assert {(row["target_class"], row["layer"]) for row in rows} == {("Normal", "block_12_add,out_relu")}

    before = (output / "phantom-0001.png.png").read_bytes()
    done = installation.xraycam("recolour", 1, "--colormap", "viridis")
    assert "2 overlays of run 1 in viridis" in done.stdout
    assert (output / "phantom-0001.png.png").read_bytes() != before
    installation.xraycam("recolour", "--colormap", "blue-red")
    assert (output / "phantom-0001.png.png").read_bytes() == before
