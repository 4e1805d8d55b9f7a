"""With a real PACS: images fetched from it, results sent back, each once, whatever happens on the way."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import func, select

from db.schema import exports
from tests.pacs.orthanc import Orthanc, assert_nameless, studies, study_uid
from tests.pacs.refusing_proxy import refusing_proxy
from tests.support.installation import Installation
from tests.support.servers import wait_until

STUDIES = 30


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    server = Orthanc(tmp_path / "orthanc")
    try:
        server.start()
        yield server
    finally:
        server.kill()


def fates(made: Installation) -> dict[tuple[str, str], int]:
    with made.ledger.read() as connection:
        rows = connection.execute(
            select(exports.c.target, exports.c.state, func.count()).group_by(
                exports.c.target, exports.c.state
            )
        )
        return {(target.partition(":")[0], state): count for target, state, count in rows}


def test_studies_of_a_pacs_are_explained_and_results_come_back_once(
    installation: Installation, orthanc: Orthanc, tmp_path: Path
) -> None:
    for content in studies(tmp_path / "drawn", STUDIES):
        orthanc.add(content)
    query = f"{orthanc.url}?StudyDate=20260101-20260131&ModalitiesInStudy=DX"
    done = installation.xraycam("run", query, "--dicom-results", orthanc.url, seconds=300)
    assert f"{STUDIES} images fetched" in done.stderr
    assert f"{2 * STUDIES} objects sent" in done.stdout
    for number in range(STUDIES):
        assert orthanc.found(study_uid(number)) == {"DX": 1, "OT": 1, "SR": 1}
    assert fates(installation) == {("dicomweb+http", "sent"): 2 * STUDIES}

    # Again, from the same query: nothing is fetched, explained or sent anew, and no result becomes a source.
    again = installation.xraycam("run", query, "--dicom-results", orthanc.url)
    assert f"{STUDIES} there from before" in again.stderr
    assert f"{2 * STUDIES} results of ours left out" in again.stderr
    assert f"0 objects sent, {2 * STUDIES} there already" in again.stdout
    # The other way, and told to send all again: the PACS knows each.
    by_store = installation.xraycam("export-dicom", 1, "--output", orthanc.node)
    assert f"{2 * STUDIES} objects sent" in by_store.stdout
    installation.xraycam("export-dicom", 1, "--output", orthanc.url, "--again")
    assert orthanc.get("/statistics")["CountInstances"] == 3 * STUDIES
    assert fates(installation) == {
        ("dicomweb+http", "sent"): 2 * STUDIES,
        ("dicom", "sent"): 2 * STUDIES,
    }
    assert_nameless(installation, done.stdout + done.stderr + again.stdout + again.stderr)


@pytest.mark.parametrize("query", ["PatientID=GEHEIM*", "PatientID=GEHEIM-000?", "ModalitiesInStudy=CR,DX"])
def test_wildcards_and_lists_of_a_query_are_understood(
    installation: Installation, orthanc: Orthanc, tmp_path: Path, query: str
) -> None:
    for content in studies(tmp_path / "drawn", 2):
        orthanc.add(content)
    asked = installation.xraycam("run", f"{orthanc.url}?{query}", "--dry-run")
    assert "would fetch 2 images of 2 studies" in asked.stdout


def test_what_a_pacs_has_corrected_or_removed_is_fetched_anew_or_gone(
    installation: Installation, orthanc: Orthanc, tmp_path: Path
) -> None:
    installation.without_tensorflow()
    same, corrected, removed = studies(tmp_path / "drawn", 3)
    for content in (same, corrected, removed):
        orthanc.add(content)
    query = f"{orthanc.url}?StudyDate=20260115"
    asked = installation.xraycam("run", query, "--dry-run")
    assert "would fetch 3 images of 3 studies" in asked.stdout
    assert not list(installation.home.glob("spool/fetched/*/*/*"))
    installation.xraycam("run", query, "--no-report")

    orthanc.remove(study_uid(1))
    orthanc.remove(study_uid(2))
    dataset = dcmread(io.BytesIO(corrected))
    dataset.PatientID = "THE-RIGHT-ONE"
    content = io.BytesIO()
    dataset.save_as(content)
    orthanc.add(content.getvalue())
    again = installation.xraycam("run", query, "--no-report")

    assert "2 studies, 1 image fetched, 1 there from before, 1 gone from the PACS" in again.stderr
    assert "1 changed" in again.stderr
    found = [dcmread(file).PatientID for file in installation.home.glob("spool/fetched/*/*/*.dcm")]
    assert sorted(found) == ["GEHEIM-0000", "THE-RIGHT-ONE"]
    rows = json.loads(installation.xraycam("results", 1, "--format", "json").stdout)
    assert [row["gone_at"] is not None for row in rows].count(True) == 1


def explained(made: Installation, folder: Path, count: int) -> int:
    """A run of so many studies in a folder; how many objects its captures and reports are."""
    (folder / "images").mkdir(parents=True)
    for number, content in enumerate(studies(folder / "drawn", count)):
        (folder / "images" / f"{number:03}.dcm").write_bytes(content)
    made.xraycam("run", folder / "images", seconds=300)
    return 2 * count


def test_everything_is_there_once_after_refusals_and_a_killed_pacs(
    installation: Installation, orthanc: Orthanc, tmp_path: Path
) -> None:
    count = explained(installation, tmp_path / "studies", 16)
    secret = "t0ken-of-the-test"  # noqa: S105 - of a server that lives as long as the test
    installation.set(pacs_timeout=4, dicomweb_token=secret)
    with refusing_proxy(orthanc.http) as proxy:
        # 503 is waited out; a batch that is too large, or refused as a whole, is sent in parts.
        proxy.answers, proxy.largest = [503, 429, 409], 600_000
        first = installation.xraycam("export-dicom", 1, "--output", proxy.url)
        assert f"{count} objects sent" in first.stdout
        assert {503, 429, 409, 413} <= set(proxy.refused)
        assert orthanc.get("/statistics")["CountInstances"] == count
        assert proxy.headers_seen[0]["Authorization"] == f"Bearer {secret}"

        # What is refused for good is said, recorded, and sent by the same command later.
        proxy.largest = 10_000
        said = installation.xraycam(
            "export-dicom", 1, "--output", proxy.url, "--again", "--map", "--sc", status=3
        )
        assert "no-map" in said.stderr
        assert secret not in first.stdout + first.stderr + said.stdout + said.stderr

    # Gone in the middle: the first batch arrives, the rest is recorded as to be sent again.
    orthanc.kill()
    away = installation.xraycam("export-dicom", 1, "--output", orthanc.url, status=2)
    assert "does not answer" in away.stderr
    assert "Traceback" not in away.stderr
    assert ("dicomweb+http", "retry") in fates(installation)
    orthanc.start()
    installation.xraycam("export-dicom", 1, "--output", orthanc.url)
    assert orthanc.get("/statistics")["CountInstances"] == count
    assert secret.encode() not in b"".join(
        file.read_bytes() for file in installation.home.rglob("*") if file.is_file()
    )


def test_pacs_that_dies_and_comes_back_during_an_export_gets_all_once(
    installation: Installation, orthanc: Orthanc, tmp_path: Path
) -> None:
    count = explained(installation, tmp_path / "studies", 40)
    for target in (orthanc.url, orthanc.node):
        before = orthanc.get("/statistics")["CountInstances"]
        exporting = installation.start(
            "export-dicom", 1, "--output", target, *(["--again"] if before else [])
        )
        wait_until(lambda: fates(installation), 60, "the first batch recorded")
        orthanc.kill()
        time.sleep(1)
        orthanc.start()
        output, _ = exporting.communicate(timeout=120)
        assert exporting.returncode == 0, output + installation.logs()
        assert f"{count} objects sent" in output
        assert orthanc.get("/statistics")["CountInstances"] == count
    assert fates(installation) == {("dicomweb+http", "sent"): count, ("dicom", "sent"): count}
