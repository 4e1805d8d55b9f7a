"""A hospital's export, DICOM in folders and archives, goes the whole way, and names nobody afterwards."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from pathlib import Path

from tests.support.installation import Installation
from tests.support.made_dicom import dicom, picture

PLANTED = ("Plantedname", "PID-7791234", "19420131", "ACC5551212", "Plantedtext", "9.8.7.6.5")


def export(number: int, study: int, **tags: object) -> bytes:
    given = {
        "PatientName": "Plantedname^Given",
        "PatientID": "PID-7791234",
        "PatientBirthDate": "19420131",
        "PatientAge": "083Y",
        "PatientSex": "F",
        "AccessionNumber": "ACC5551212",
        "StudyDescription": "Plantedtext",
        "InstitutionName": "Plantedtext",
        "ImageComments": "Plantedtext",
        "Manufacturer": "ACME",
        "ManufacturerModelName": "Ray for Plantedname",
        "StudyInstanceUID": f"9.8.7.6.5.{study}",
        "SeriesInstanceUID": f"9.8.7.6.5.{study}.1",
        "SOPInstanceUID": f"9.8.7.6.5.{study}.1.{number}",
        "BurnedInAnnotation": "YES" if number == 1 else "NO",
        "BitsStored": 12,
    }
    return dicom(picture() + number, **(given | tags))


def test_archives_are_explained_in_place_and_nothing_names_the_patient(installation: Installation) -> None:
    folder = installation.folder / "export"
    folder.mkdir()
    (folder / "IM1").write_bytes(export(1, 1))
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("DICOM/IM2", export(2, 1))
        made.writestr("../IM9", export(9, 1))
        made.writestr("lateral.dcm", export(8, 1, ViewPosition="LL", BurnedInAnnotation="YES"))
        made.writestr("cut.dcm", export(7, 1)[:-4000])
    with tarfile.open(folder / "b.tar.gz", "w:gz") as tape:
        content = export(3, 2)
        info = tarfile.TarInfo("deep/IM3.dcm")
        info.size = len(content)
        tape.addfile(info, io.BytesIO(content))
    (folder / "broken.zip").write_bytes((folder / "a.zip").read_bytes()[:3000])
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    done = installation.xraycam("run", folder, "--heatmaps", status=3)

    found = installation.xraycam("results", "--format", "csv")
    rows = {row["path"].removeprefix(f"{folder}/"): row for row in csv.DictReader(found.stdout.splitlines())}
    assert {path: row["reason"] or row["status"] for path, row in rows.items()} == {
        "IM1": "done",
        "a.zip!/DICOM/IM2": "done",
        "a.zip!/../IM9": "outside-root",
        "a.zip!/lateral.dcm": "not-frontal",
        "a.zip!/cut.dcm": "truncated",
        "b.tar.gz!/deep/IM3.dcm": "done",
        "broken.zip": "not-an-image",
    }
    good = [row for row in rows.values() if row["status"] == "done"]
    assert all(Path(row["overlay"]).is_file() for row in good)
    assert len({row["patient"] for row in good}) == 1
    assert len({row["study"] for row in good}) == 2
    assert all(len(row["instance"]) == 32 for row in good)
    header = json.loads(rows["IM1"]["header"])
    assert header["manufacturer"] == "ACME"
    assert header["model"] is None  # it repeats the name
    assert not {"age", "sex"} & set(header)
    assert "1 image has text burned in" in done.stdout

    again = installation.xraycam("run", folder, "--heatmaps", status=3)
    assert "0 new, 3 done already, 0 changed, 4 to retry" in again.stderr
    studies = installation.xraycam("results", "--per", "study", "--format", "jsonl")
    counted = [json.loads(line) for line in studies.stdout.splitlines()]
    assert sorted((row["images"], row["status"]) for row in counted) == [
        (1, "done"),
        (2, "failed"),  # without a header: a broken archive, and a name that leads out of its archive
        (4, "failed"),  # of the first study, a lateral view and a file that is cut are refused
    ]
    per_patient = installation.xraycam("results", "--per", "patient")
    dry = installation.xraycam("run", folder / "a.zip", "--heatmaps", "--dry-run")
    recoloured = installation.xraycam("recolour", "--colormap", "viridis")
    assert "3 overlays of run 1 in viridis, 0 left" in recoloured.stdout
    assert "of 4 images found" in dry.stdout

    key = installation.home / "identity.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before  # nothing was unpacked
    said = [done, found, again, studies, per_patient, dry, recoloured]
    everything = [text.encode() for one in said for text in (one.stdout, one.stderr)]
    everything += [file.read_bytes() for file in installation.home.rglob("*") if file.is_file()]
    for planted in PLANTED:
        assert not any(planted.lower().encode() in content.lower() for content in everything), planted


def test_age_and_sex_are_kept_when_asked_for_alone(installation: Installation) -> None:
    folder = installation.folder / "export"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(export(1, 1))
    installation.xraycam("run", folder, "--keep-age-sex")
    row = next(csv.DictReader(installation.xraycam("results", "--format", "csv").stdout.splitlines()))
    header = json.loads(row["header"])
    assert (header["age"], header["sex"]) == ("083Y", "F")
