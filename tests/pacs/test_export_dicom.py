"""`export-dicom` as people use it: into a folder, again, revised, and of images that are gone."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select, update

from db.schema import results
from tests.pacs.orthanc import studies
from tests.support.installation import Installation, draw_xrays


def archive(folder: Path, count: int = 3) -> Path:
    """A folder with so many DICOM images, and two that are none."""
    draw_xrays(folder, 2)
    for number, content in enumerate(studies(folder.parent / "drawn", count)):
        (folder / f"{number}.dcm").write_bytes(content)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def test_results_become_files_and_a_repeat_the_same_files(installation: Installation, tmp_path: Path) -> None:
    folder = archive(tmp_path / "xrays")
    done = installation.xraycam("run", folder, "--heatmaps", "--dicom-results", tmp_path / "first")
    assert "6 objects sent, 2 images are not DICOM" in done.stdout
    first = digests(tmp_path / "first")
    assert len(first) == 6
    installation.xraycam("export-dicom", "--output", tmp_path / "second")
    assert digests(tmp_path / "second") == first
    maps = installation.xraycam("export-dicom", 1, "--map", "--output", tmp_path / "maps")
    assert "3 objects sent" in maps.stdout
    # The same images in another run with the same options: the same objects, not a second copy.
    installation.xraycam("run", folder, "--heatmaps", "--force", "--dicom-results", tmp_path / "third")
    assert set(digests(tmp_path / "third")) == set(first)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--layer", "block_12_add", "--layer", "out_relu"),
        ("--method", "gradcam", "--method", "eigencam", "--target", "all"),
    ],
    ids=["usual", "layers", "methods-of-every-class"],
)
def test_values_of_maps_are_those_before_scaling(
    installation: Installation, tmp_path: Path, options: tuple[str, ...]
) -> None:
    installation.xraycam("run", archive(tmp_path / "xrays", 1), "--heatmaps", *options)
    installation.xraycam("export-dicom", 1, "--map", "--output", tmp_path / "maps")
    with installation.ledger.read() as connection:
        found = connection.execute(select(results.c.heatmap_max)).scalars().all()
    made = [dcmread(file) for file in (tmp_path / "maps").iterdir()]
    slopes = sorted(
        one.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0].RealWorldValueSlope
        for one in made
    )
    assert any(slopes == pytest.approx(sorted(maxima.values()), rel=1e-5) for maxima in found)


def test_revised_report_names_its_predecessor(installation: Installation, tmp_path: Path) -> None:
    installation.xraycam("run", archive(tmp_path / "xrays", 1), "--dicom-results", tmp_path / "out")
    reports = {file.name for file in (tmp_path / "out").iterdir() if dcmread(file).Modality == "SR"}
    with installation.ledger.engine.begin() as connection:
        connection.execute(update(results).values(score=77.0, threshold=50.0, decision="refer"))
    installation.xraycam("export-dicom", 1, "--sr", "--output", tmp_path / "revised")
    (revised,) = (tmp_path / "revised").iterdir()
    earlier = dcmread(revised).PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    named = earlier.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert {f"{named}.dcm"} == reports
    assert revised.name not in reports


def test_image_that_is_gone_or_changed_fails_alone_with_its_reason(
    installation: Installation, tmp_path: Path
) -> None:
    folder = archive(tmp_path / "xrays")
    installation.xraycam("run", folder)
    (folder / "0.dcm").unlink()
    (folder / "1.dcm").write_bytes((folder / "2.dcm").read_bytes())
    done = installation.xraycam("export-dicom", 1, "--output", tmp_path / "out", status=3)
    assert "2 objects sent, 1 image failed: unreadable-source, 1 image failed: changed-source" in done.stdout
    assert "0.dcm: unreadable-source: " in done.stderr
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_of_one_file_or_a_pattern_nothing_else_of_the_folder_is_explained_or_sent(
    installation: Installation, tmp_path: Path
) -> None:
    folder = archive(tmp_path / "xrays")
    installation.xraycam("run", folder, "--no-report")
    (folder / "late.png").write_bytes(next(folder.glob("*.png")).read_bytes())
    one = installation.xraycam("run", folder / "1.dcm", "--no-report", "--dicom-results", tmp_path / "one")
    assert "run 2: 1 image, 1 new" in one.stderr
    assert "run 2 to " in one.stdout
    assert "2 objects sent" in one.stdout
    assert len(digests(tmp_path / "one")) == 2
    some = installation.xraycam(
        "run", folder, "--glob", "[02].dcm", "--no-report", "--dicom-results", tmp_path / "some"
    )
    assert "run 3: 2 images, 2 new" in some.stderr
    assert "4 objects sent" in some.stdout
    assert installation.counts(1) == {"images": 5, "done": 5}


def test_enqueued_run_is_exported_when_the_workers_are_done(
    distributed: Installation, tmp_path: Path
) -> None:
    folder = archive(tmp_path / "xrays")
    distributed.start("worker")
    done = distributed.xraycam("enqueue", folder, "--dicom-results", tmp_path / "out")
    assert "6 objects sent" in done.stdout
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_wrong_use_is_said_before_anything_is_done(installation: Installation, tmp_path: Path) -> None:
    folder = archive(tmp_path / "xrays", 1)
    for given in ("ftp://host/", "dicom://host", "dicomweb+https://me:secret@host/"):
        done = installation.xraycam("run", folder, "--dicom-results", given, status=2)
        assert len(done.stderr.strip().splitlines()) == 1
        assert "secret" not in done.stderr
    installation.set(pacs_timeout=1)
    away = installation.xraycam("run", "dicomweb+http://127.0.0.1:9/x", "--dry-run", status=2, seconds=200)
    assert "does not answer" in away.stderr
    assert "Traceback" not in away.stderr
