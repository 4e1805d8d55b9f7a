"""What a receiver and a fetch may cost, who is trusted, and how an interrupted fetch resumes."""

from __future__ import annotations

import io
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from producer.pacs.fetch import first_part
from producer.pacs.outgoing import Outgoing, TargetAway
from producer.pacs.receiver import Receiver, is_done, mark_done, state_of
from producer.pacs.spool import Spool, SpoolFull
from producer.pacs.store_target import StoreTarget
from producer.pacs.targets import open_target
from tests.pacs.orthanc import Orthanc, studies, study_uid
from tests.pacs.refusing_proxy import refusing_proxy
from tests.support.installation import Installation, unavailable
from tests.support.servers import free_port, wait_until
from worker.errors import XraycamError
from worker.settings import load_settings

CALLER = "XRAYCAM"


@pytest.fixture
def receiver(home: Path) -> Iterator[Receiver]:
    made = started()
    yield made
    made.stop()


def started() -> Receiver:
    load_settings.cache_clear()
    made = Receiver(load_settings(), free_port(), "STATION", [CALLER], "127.0.0.1")
    made.start()
    return made


def store(receiver: Receiver, content: bytes, scheme: str = "dicom") -> object:
    """What becomes of a file of a capture's class that is sent to it."""
    settings = load_settings().model_copy(update={"pacs_timeout": 1.0})
    target = StoreTarget(f"{scheme}://STATION@localhost:{receiver._where[1]}", settings)
    try:
        return target.send([Outgoing("1.2.3", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.1.2.1", content)])[
            0
        ]
    finally:
        target.close()


def scanned(folder: Path, size: int = 128) -> bytes:
    """A scanned film: of the class that our captures have too."""

    dataset = dcmread(io.BytesIO(studies(folder, 1, size)[0]))
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def test_message_that_is_larger_than_a_file_may_be_ends_its_association(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    receiver.stop()
    monkeypatch.setenv("XRAYCAM_MAX_BYTES", "100000")
    bounded = started()
    try:
        assert store(bounded, scanned(tmp_path / "small")).state == "sent"
        with pytest.raises(TargetAway):
            store(bounded, scanned(tmp_path / "large", 700))
        assert bounded.counts["too large"]
        assert len(list(bounded.spool.root.rglob("*.dcm"))) == 1
    finally:
        bounded.stop()


def test_full_spool_is_said_to_the_sender_and_nothing_is_lost(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    receiver.stop()
    monkeypatch.setenv("XRAYCAM_SPOOL_BYTES", "1000")
    bounded = started()
    try:
        fate = store(bounded, scanned(tmp_path / "drawn"))
        assert fate.state == "retry"
        assert "out of resources" in fate.answer
        assert not list(bounded.spool.root.rglob("*.dcm"))
    finally:
        bounded.stop()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that is its own authority, and its key."""
    if shutil.which("openssl") is None:
        unavailable("openssl is not here: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", folder / "key.pem",
         "-out", folder / "certificate.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_over_tls_only_known_certificates_are_spoken_to(
    receiver: Receiver, certificates: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    receiver.stop()
    content = scanned(tmp_path / "drawn")
    monkeypatch.setenv("XRAYCAM_DICOM_TLS_CERTIFICATE", str(certificates / "certificate.pem"))
    monkeypatch.setenv("XRAYCAM_DICOM_TLS_KEY", str(certificates / "key.pem"))
    monkeypatch.setenv("XRAYCAM_DICOM_TLS_CA", str(certificates / "certificate.pem"))
    secured = started()
    try:
        assert store(secured, content, "dicom+tls").state == "sent"
        with pytest.raises(TargetAway):
            store(secured, content, "dicom")
        monkeypatch.delenv("XRAYCAM_DICOM_TLS_CA")
        load_settings.cache_clear()
        with pytest.raises(XraycamError):  # whose certificate nobody vouches for
            store(secured, content, "dicom+tls")
    finally:
        secured.stop()


def test_spool_keeps_a_file_whole_once_and_within_its_bound(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 100)
    file = spool.file_of("study", "1.2.3")
    assert "1.2.3" not in str(file)
    assert file == Spool(tmp_path / "spool", 100).file_of("study", "1.2.3")
    assert spool.write(file, b"a" * 60)
    assert not spool.write(file, b"a" * 60)
    with pytest.raises(SpoolFull, match="XRAYCAM_SPOOL_BYTES"):
        spool.write(spool.file_of("study", "1.2.4"), b"b" * 60)
    with pytest.raises(SpoolFull):
        Spool(tmp_path / "spool", 100).write(file.with_name("other.dcm"), b"b" * 60)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_study_is_done_until_something_comes(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(b"1")
    state = state_of(tmp_path)
    assert not is_done(tmp_path, state)
    assert not state.is_quiet(60)
    assert state.is_quiet(0)
    mark_done(tmp_path, state)
    assert is_done(tmp_path, state_of(tmp_path))
    (tmp_path / "2.dcm").write_bytes(b"2")
    assert not is_done(tmp_path, state_of(tmp_path))


def test_part_of_an_answer_that_is_cut_is_no_image() -> None:
    kind = 'multipart/related; type="application/dicom"; boundary=xyz'
    image = b"DICM\r\n--no boundary\r\n\0\1"
    whole = b"\r\n--xyz\r\nContent-Type: application/dicom\r\n\r\n" + image + b"\r\n--xyz--\r\n"
    assert first_part(whole, kind) == image
    for cut in range(len(whole) - len(b"\r\n--xyz--\r\n") + len(b"\r\n--xyz") - 1):
        assert first_part(whole[:cut], kind) is None
    length = b"\r\n--xyz\r\nContent-Length: 4\r\n\r\nabcd\r\n--xyz--"
    assert first_part(length, kind) == b"abcd"
    assert first_part(image, "application/dicom") == image


@pytest.mark.parametrize(
    "given",
    ["ftp://host", "dicom://host:104", "dicom://A@", "dicom://A:b@host", "dicom://" + "A" * 17 + "@host",
     "dicomweb+https://user:secret@host/x", "dicomweb+https://"],
)  # fmt: skip
def test_what_is_no_target_is_refused_in_a_line(given: str, home: Path) -> None:
    with pytest.raises(XraycamError) as caught:
        open_target(given, load_settings()).close()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_credentials_do_not_go_unencrypted_to_another_machine(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XRAYCAM_DICOMWEB_TOKEN", "secret")
    load_settings.cache_clear()
    with pytest.raises(XraycamError, match="unencrypted"):
        open_target("dicomweb+http://pacs.example/dicom-web", load_settings())
    open_target("dicomweb+https://pacs.example/dicom-web", load_settings()).close()


def test_interrupted_fetch_resumes_where_it_stopped(installation: Installation, tmp_path: Path) -> None:
    server = Orthanc(tmp_path / "orthanc")
    try:
        server.start()
        for content in studies(tmp_path / "drawn", 12):
            server.add(content)
        installation.set(dicomweb_rate=10, pacs_timeout=20)
        with refusing_proxy(server.http) as proxy:
            command = ("run", f"{proxy.url}?StudyDate=20260115")
            running = installation.start(*command)
            fetched = installation.home / "spool" / "fetched"
            wait_until(lambda: len(list(fetched.rglob("*.dcm"))) >= 3, 60, "some fetched")
            for process in installation.processes():
                installation.kill(process)
            running.wait()
            had = len(list(fetched.rglob("*.dcm")))
            assert 3 <= had < 12
            running = installation.start(*command)
            wait_until(lambda: len(list(fetched.rglob("*.dcm"))) > had, 60, "more fetched")
            server.kill()  # and comes back while it is waited for
            time.sleep(1)
            server.start()
            _, _ = running.communicate(timeout=120)
            assert running.returncode == 0, installation.logs()
        assert installation.counts() == {"images": 12, "done": 12}
        assert server.found(study_uid(0)) == {"DX": 1}
        assert f"{had} there from before" in (installation.folder / "stderr.txt").read_text()
    finally:
        server.kill()
