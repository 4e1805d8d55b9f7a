"""Identity planted in DICOM files is found in none of the places that a run writes to or tells of it."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.installation import Installation
from tests.support.made_dicom import dicom, picture
from tests.support.servers import Valkey, free_port, wait_until

PLANTED = ("Plantedname", "PID-7791234", "19420131", "ACC5551212", "Plantedtext", "9.8.7.6.5")
IDENTITY = {
    "PatientName": "Plantedname^Given",
    "PatientID": "PID-7791234",
    "PatientBirthDate": "19420131",
    "AccessionNumber": "ACC5551212",
    "StudyDescription": "Plantedtext",
    "SeriesDescription": "Plantedtext",
    "ProtocolName": "Plantedtext",
    "InstitutionName": "Plantedtext",
    "ReferringPhysicianName": "Plantedname^Referring",
    "ImageComments": "Plantedtext",
    "PatientComments": "Plantedtext",
    "Manufacturer": "Plantedname devices",
    "StudyInstanceUID": "9.8.7.6.5.1",
    "SeriesInstanceUID": "9.8.7.6.5.1.1",
    "BitsStored": 12,
}


def export(number: int, **tags: Any) -> bytes:
    given = IDENTITY | {"SOPInstanceUID": f"9.8.7.6.5.1.1.{number}"} | tags
    return dicom(picture() + number, **given)


def exported(folder: Path) -> None:
    """Files that are explained and files that fail, each in another way, alone and in an archive."""
    folder.mkdir()
    files = {
        "good": export(1),
        "lateral": export(2, ViewPosition="LL"),
        "part": export(3, BodyPartExamined="Plantedtext"),
        "view": export(4, ViewPosition="Plantedtext"),
        "cut": export(5)[:-4000],
        "window": export(6, WindowCenter="500", WindowWidth="-1", WindowCenterWidthExplanation="Plantedtext"),
        "colour": export(7, PhotometricInterpretation="Plantedtext"),
        "modality": export(8, Modality="Plantedtext"),
        "header": export(9)[:700],
        "blank": dicom(picture() * 0, **(IDENTITY | {"SOPInstanceUID": "9.8.7.6.5.1.1.10"})),
    }
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            (folder / f"{name}.dcm").write_bytes(content)
            archive.writestr(f"DICOM/{name}", content)


@pytest.mark.filterwarnings("ignore:Invalid value for VR")  # which is what the test is about
def test_planted_identity_is_in_no_queue_log_report_overlay_or_ledger(
    distributed: Installation, valkey: Valkey
) -> None:
    folder = distributed.folder / "export"
    exported(folder)
    distributed.set(log_level="DEBUG", chunk_size=5)
    distributed.environment |= {"FLOWER_UNAUTHENTICATED_API": "true", "CELERY_BROKER_URL": valkey.url}
    told = [distributed.xraycam("enqueue", folder).stdout, broker_dump(valkey)]
    assert "explain_chunk" in told[-1]
    flower, metrics = free_port(), free_port()
    watching = start_flower(distributed, flower)
    wait_until(lambda: fetched(flower, "/api/tasks") is not None, 60, "Flower answers")
    distributed.start("worker", "--gpus", "none", "--metrics-port", metrics)
    told.append(distributed.xraycam("watch", 1, status=3).stdout)
    wait_until(
        lambda: len(json.loads(fetched(flower, "/api/tasks") or "{}")) >= 4, 60, "Flower has the tasks"
    )
    told += [fetched(flower, path) or "" for path in ("/api/tasks", "/api/workers", "/tasks", "/metrics")]
    assert "explain_chunk" in told[-4]
    told.append(fetched(metrics, "/metrics") or "")
    assert "xraycam_up" in told[-1]
    told.append(broker_dump(valkey))

    for arguments in (["report"], ["results", "--format", "jsonl"], ["results", "--per", "study"],
                      ["retry", "--reason", "truncated"], ["watch", 1], ["recolour", "--colormap", "viridis"],
                      ["workers"], ["runs"]):  # fmt: skip
        done = distributed.xraycam(*arguments, status=None)
        told += [done.stdout, done.stderr]
    rows = [
        json.loads(line) for line in distributed.xraycam("results", "--format", "jsonl").stdout.splitlines()
    ]
    reasons = {Path(row["path"]).name: row["reason"] for row in rows}
    assert (reasons["good"], reasons["lateral"], reasons["cut"]) == (None, "not-frontal", "truncated")
    refused = [row for row in rows if row["reason"] in ("not-frontal", "not-chest", "truncated")]
    assert len({row["patient"] for row in rows if row["patient"]}) == 1
    assert all(row["study"] for row in refused if not row["path"].endswith(("header", "header.dcm")))

    assert watching.poll() is None
    distributed.stop_all()
    assert " DEBUG " in (distributed.folder / "stderr.txt").read_text()
    files = {
        str(file): file.read_bytes()
        for file in distributed.folder.rglob("*")
        if file.is_file() and not file.is_relative_to(folder)
    }
    assert any(file.endswith("ledger.sqlite3") for file in files)
    assert any("xraycam-report" in file for file in files)
    pictures = [file for file in files if file.endswith((".png", ".webp", ".jpg"))]
    assert pictures
    files |= {f"metadata of {file}": metadata_of(file) for file in pictures}
    files |= {f"told {number}": text.encode() for number, text in enumerate(told)}
    found = {
        (planted, name)
        for name, content in files.items()
        for planted in PLANTED
        if planted.lower().encode() in content.lower() or planted.encode("utf-16-le") in content
    }
    assert not found


def start_flower(made: Installation, port: int) -> subprocess.Popen[bytes]:
    """Flower on the broker, ended with the installation."""
    return subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "worker", "flower", f"--port={port}", "--address=127.0.0.1"],
        env=made.environment, cwd=made.folder, stdin=subprocess.DEVNULL,
        stdout=(made.folder / "flower.txt").open("wb"), stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def fetched(port: int, path: str) -> str | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def broker_dump(valkey: Valkey) -> str:
    """All keys with what they hold; the bodies of messages decoded."""
    client = valkey.client()
    read = {
        b"string": client.get, b"hash": client.hgetall, b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1), b"zset": lambda key: client.zrange(key, 0, -1),
    }  # fmt: skip
    kept = ""
    for key in client.scan_iter("*"):
        kind: Any = client.type(key)
        kept += f"{key!r} {read[kind if isinstance(kind, bytes) else kind.encode()](key)!r}\n"
    bodies = re.findall(r'"body": "([A-Za-z0-9+/=]+)"', kept)
    return kept + "\n".join(base64.b64decode(body).decode("latin-1") for body in bodies)


def metadata_of(file: str) -> bytes:
    """What a picture says beside its pixels, with compressed texts unpacked."""
    with Image.open(file) as picture_file:
        picture_file.load()
        return repr((picture_file.info, dict(picture_file.getexif()))).encode()
