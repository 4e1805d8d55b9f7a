"""A node that receives: what it has acknowledged is kept, whatever kills it, and explained once."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import func, select

from db.schema import images, results
from tests.pacs.orthanc import Orthanc, assert_nameless, studies, study_uid
from tests.support.installation import Installation, unavailable
from tests.support.servers import free_port, wait_until

FILES, SENDERS = 500, 4


@pytest.fixture(autouse=True)
def dcmtk() -> None:
    if shutil.which("storescu") is None:
        unavailable("storescu is not here: apt-get install dcmtk")


def drawn(folder: Path, count: int, size: int = 128) -> list[Path]:
    """So many files, five to a study."""
    folder.mkdir(parents=True)
    files = []
    first = studies(folder / "drawn", 1, size)[0]
    dataset = dcmread(io.BytesIO(first))
    for number in range(count):
        study = study_uid(1000 + number // 5)
        dataset.StudyInstanceUID = study
        dataset.SeriesInstanceUID = f"{study}.1"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.{number + 1}"
        file = folder / f"{number:04}.dcm"
        dataset.save_as(file, enforce_file_format=True)
        files.append(file)
    return files


def send(
    port: int, files: list[Path], title: str = "SENDER", called: str = "XRAYCAM"
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["storescu", "-aet", title, "-aec", called, "-to", "10", "127.0.0.1", str(port), *map(str, files)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def send_until_all_are_taken(port: int, files: list[Path]) -> None:
    """As a PACS does: a sender whose association breaks sends its files again."""
    parts = {number: files[number::SENDERS] for number in range(SENDERS)}
    end = time.monotonic() + 120
    while parts:
        senders = {number: send(port, part) for number, part in parts.items()}
        for number, sender in senders.items():
            sender.communicate(timeout=120)
            if sender.returncode == 0:
                del parts[number]
        assert time.monotonic() < end, f"{len(parts)} senders not done"


def rows(made: Installation) -> tuple[int, int]:
    """Images and results of all runs."""
    with made.ledger.read() as connection:
        return (
            connection.execute(select(func.count()).select_from(images)).scalar_one(),
            connection.execute(select(func.count()).select_from(results)).scalar_one(),
        )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nothing_acknowledged_is_lost_nor_doubled_under_load_and_a_kill(
    installation: Installation, tmp_path: Path
) -> None:
    files = drawn(tmp_path / "files", FILES)
    port = free_port()
    command = ("receive", "--port", port, "--from", "SENDER", "--quiet", "2")
    first = installation.start(*command)
    wait_until(lambda: _listens(port), 60, "the node listens")
    parts = [send(port, files[number::SENDERS]) for number in range(SENDERS)]
    spool = installation.home / "spool" / "received"
    wait_until(lambda: len(list(spool.rglob("*.dcm"))) >= FILES // 4, 60, "a quarter received")
    for process in installation.processes():
        installation.kill(process)
    first.wait()
    assert [sender.wait() for sender in parts].count(0) < SENDERS  # in the middle
    installation.start(*command)
    wait_until(lambda: _listens(port), 60, "the node listens again")
    send_until_all_are_taken(port, files)
    kept = {dcmread(file).SOPInstanceUID for file in spool.rglob("*.dcm")}
    assert len(kept) == len(list(spool.rglob("*.dcm"))) == FILES
    wait_until(lambda: rows(installation) == (FILES, FILES), 300, f"all explained: {rows(installation)}")
    # Sent again, each is the file that it was, and nothing is explained twice.
    send_until_all_are_taken(port, files[:40])
    time.sleep(4)
    assert rows(installation) == (FILES, FILES)


def test_only_named_callers_and_titles_are_let_in(installation: Installation, tmp_path: Path) -> None:
    files = drawn(tmp_path / "files", 1)
    port = free_port()
    installation.start("receive", "--port", port, "--from", "SENDER", "--quiet", "60")
    wait_until(lambda: _listens(port), 60, "the node listens")
    assert send(port, files, title="STRANGER").wait() != 0
    assert send(port, files, called="OTHER").wait() != 0
    assert not list((installation.home / "spool").rglob("*.dcm"))
    assert send(port, files).wait() == 0
    open_to_all = installation.xraycam("receive", "--address", "0.0.0.0", status=2)  # noqa: S104 - refused
    assert "--from" in open_to_all.stderr


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    port = free_port()
    server = Orthanc(tmp_path / "orthanc", DicomModalities={"xraycam": ["XRAYCAM", "127.0.0.1", port]})
    try:
        server.start()
        yield server
    finally:
        server.kill()


def test_station_sends_results_back_and_refuses_them_as_sources(
    installation: Installation, orthanc: Orthanc, tmp_path: Path
) -> None:
    contents = studies(tmp_path / "drawn", 3)
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.dcm").write_bytes(content)
        orthanc.add(content)
    port = free_port()
    installation.start(
        "station", "--port", port, "--from", "SENDER", "--quiet", "1", "--output", orthanc.node
    )
    wait_until(lambda: _listens(port), 60, "the station listens")
    assert send(port, sorted(tmp_path.glob("?.dcm"))).wait() == 0
    expected = {"DX": 1, "OT": 1, "SR": 1}
    wait_until(
        lambda: all(orthanc.found(study_uid(number)) == expected for number in range(3)), 120, "results back"
    )
    # Its captures, sent to it as a rule without a filter would.
    installation.xraycam("export-dicom", 1, "--sc", "--output", tmp_path / "captures")
    captures = list((tmp_path / "captures").glob("*.dcm"))
    assert captures
    answer = send(port, captures)
    words, _ = answer.communicate()
    assert answer.returncode != 0 or "0x0124" in words or "Refused" in words, words
    time.sleep(3)
    assert rows(installation) == (3, 3)
    assert orthanc.get("/statistics")["CountInstances"] == 9
    assert_nameless(installation, (installation.folder / "stderr.txt").read_text())
