"""The ledger of objects that were sent: each once for a target, and which report revises which."""

from __future__ import annotations

from typing import Any

from db.exports import (
    REFUSED,
    RETRY,
    SENT,
    count_exports,
    select_exportable,
    select_predecessor,
    select_sent,
    upsert_exports,
)
from db.leases import record_results
from db.ledger import Ledger
from db.runs import Run
from tests.support.made_runs import lease, some_files, take


def made(ledger: Ledger, count: int = 3) -> tuple[Run, list[int]]:
    """A run with so many done images, and one that failed."""
    run, _ = take(ledger, some_files(count + 1))
    held = lease(ledger, run, 1)
    rows: list[dict[str, Any]] = [
        {"image_id": image.id, "status": "done", "class": "Normal"} for image in held.images
    ]
    rows[-1] = {"image_id": held.images[-1].id, "status": "failed", "reason": "empty"}
    ledger.write(record_results, held, rows)
    return run, [image.id for image in held.images[:-1]]


def entry(run: Run, image: int, uid: str, state: str = SENT, **more: Any) -> dict[str, Any]:
    return {
        "run_id": run.id, "image_id": image, "kind": "report", "target": "dicom://PACS@host:104",
        "instance_uid": uid, "series_uid": f"{uid}.0", "source_sha256": "a" * 64, "model_version": "tb-3",
        "state": state, "answer": None, **more,
    }  # fmt: skip


def test_done_images_are_read_in_parts(ledger: Ledger) -> None:
    run, images = made(ledger)
    with ledger.read() as connection:
        first = select_exportable(connection, run.id, limit=2)
        rest = select_exportable(connection, run.id, after=first[-1]["image_id"])
    assert [row["image_id"] for row in first + rest] == images
    assert first[0]["path"].endswith(".png")
    assert first[0]["class"] == "Normal"


def test_an_object_is_recorded_once_for_each_target_and_stays_sent(ledger: Ledger) -> None:
    run, images = made(ledger)
    for state, answer in ((RETRY, "away"), (REFUSED, "HTTP 413"), (SENT, None), (RETRY, "away again")):
        ledger.write(upsert_exports, [entry(run, images[0], "2.25.1", state, answer=answer)])
    ledger.write(upsert_exports, [entry(run, images[0], "2.25.1", REFUSED, target="/folder")])
    with ledger.read() as connection:
        assert count_exports(connection, run.id, "dicom://PACS@host:104") == {SENT: 1}
        assert count_exports(connection, run.id, "/folder") == {REFUSED: 1}
        assert select_sent(connection, "dicom://PACS@host:104", ["2.25.1", "2.25.2"]) == {"2.25.1"}
        assert select_sent(connection, "/folder", ["2.25.1"]) == set()


def test_report_revises_the_last_one_sent_before_it_about_the_same_image_by_the_same_model(
    ledger: Ledger,
) -> None:
    run, images = made(ledger)

    def predecessor(uid: str, sha256: str = "a" * 64, version: str = "tb-3") -> str | None:
        with ledger.read() as connection:
            found = select_predecessor(connection, sha256, version, uid)
        return None if found is None else found[1]

    assert predecessor("2.25.1") is None
    ledger.write(upsert_exports, [entry(run, images[0], "2.25.1")])
    ledger.write(upsert_exports, [entry(run, images[0], "2.25.2", kind="capture")])
    ledger.write(upsert_exports, [entry(run, images[0], "2.25.3", REFUSED)])
    assert predecessor("2.25.1") is None  # again: as the first time
    assert predecessor("2.25.4") == "2.25.1"
    ledger.write(upsert_exports, [entry(run, images[0], "2.25.4")])
    assert predecessor("2.25.4") == "2.25.1"
    assert predecessor("2.25.5") == "2.25.4"
    assert predecessor("2.25.5", version="tb-4") is None
    assert predecessor("2.25.5", sha256="b" * 64) is None
