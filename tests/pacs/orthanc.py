"""A real Orthanc with DICOMweb, which a test may kill and start again; and studies for it."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydicom import dcmread

from producer.phantoms import make_phantoms
from tests.support.installation import Installation, unavailable
from tests.support.made_dicom import dicom
from tests.support.servers import free_port, wait_until

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
# Debian's package keeps it outside the search path of a person.
PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
TITLE = "ORTHANC"


class Orthanc:
    """One server; `url` is for export and run, `node` for C-STORE."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        if PROGRAM is None or not PLUGIN.exists():
            unavailable("Orthanc is not here: apt-get install orthanc orthanc-dicomweb")
        self.folder = folder
        folder.mkdir()
        self.http, self.port = free_port(), free_port()
        self.url = f"dicomweb+http://127.0.0.1:{self.http}/dicom-web"
        self.node = f"dicom://{TITLE}@127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        configuration = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(PLUGIN)],
            "HttpPort": self.http,
            "DicomPort": self.port,
            "DicomAet": TITLE,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowEcho": True,
            "OverwriteInstances": False,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **settings,
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration))

    def start(self) -> None:
        assert PROGRAM is not None
        self._process = subprocess.Popen(
            [PROGRAM, str(self.folder / "orthanc.json")],
            stdout=(self.folder / "log.txt").open("ab"), stderr=subprocess.STDOUT, cwd=self.folder,
        )  # fmt: skip
        wait_until(self._answers, 60, "Orthanc answers")

    def _answers(self) -> bool:
        try:
            self.get("/system")
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as answer:
            return json.load(answer)

    def add(self, content: bytes) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        connection.request("POST", "/instances", content)
        assert connection.getresponse().status == 200
        connection.close()

    def remove(self, study: str) -> None:
        """A study, by its UID."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=30)
        connection.request("POST", "/tools/lookup", study)
        (known,) = json.loads(connection.getresponse().read())
        connection.request("DELETE", known["Path"])
        assert connection.getresponse().status == 200
        connection.close()

    def found(self, study: str) -> dict[str, int]:
        """By QIDO: how many instances of each modality a study has."""
        counts: dict[str, int] = {}
        for series in self.get(f"/dicom-web/studies/{study}/series"):
            uid = series["0020000E"]["Value"][0]
            modality = series["00080060"]["Value"][0]
            instances = self.get(f"/dicom-web/studies/{study}/series/{uid}/instances")
            counts[modality] = counts.get(modality, 0) + len(instances)
        return counts


NAME = "Geheimnis^Erika"


def study_uid(number: int) -> str:
    return f"1.2.826.0.1.3680043.10.9999.{number + 1}"


def with_meta(content: bytes) -> bytes:
    """The file with the UID of its data set in its meta information."""
    dataset = dcmread(io.BytesIO(content))
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def studies(folder: Path, count: int, size: int = 128) -> list[bytes]:
    """DICOM files of drawn chests, each of its own study, with an identity that is to go nowhere else."""
    make_phantoms(folder, count, seed=11, size=size)
    made = sorted(file for file in folder.rglob("*.png"))
    assert len(made) >= count
    files = []
    for number, file in enumerate(made[:count]):
        values = np.asarray(Image.open(file).convert("L"))
        files.append(
            with_meta(
                dicom(
                    values,
                    SOPInstanceUID=f"{study_uid(number)}.1.1",
                    SeriesInstanceUID=f"{study_uid(number)}.1",
                    StudyInstanceUID=study_uid(number),
                    PatientID=f"GEHEIM-{number:04}",
                    PatientName=NAME,
                    PatientBirthDate="19520229",
                    PatientSex="F",
                    StudyDate="20260115",
                    StudyTime="101112",
                    AccessionNumber=f"A{number:05}",
                    StudyID="1",
                    ReferringPhysicianName="Vertraulich^Doktor",
                    PatientOrientation=["L", "F"],
                    ViewPosition="PA",
                    Modality="DX",
                    SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1",
                )
            )
        )
    return files


def assert_nameless(made: Installation, said: str) -> None:
    """The planted identity is in fetched images, and in nothing else that we wrote."""
    hidden = [
        NAME.encode(),
        b"Geheimnis",
        b"GEHEIM-",
        b"Vertraulich",
        b"19520229",
        b"1.2.826.0.1.3680043.10.9999",
    ]
    files = [file for file in made.home.rglob("*") if file.is_file() and file.suffix != ".dcm"]
    assert any(file.name.startswith("ledger") for file in files)
    for file in files:
        content = str(file).encode() + file.read_bytes()
        assert not [word for word in hidden if word in content], file
    for file in made.home.rglob("*.dcm"):
        assert not [word for word in hidden if word in str(file).encode()], file
    assert not [word for word in hidden if word.decode() in said]
