"""Recording results: `done` stands, counts are right, a chunk is finished with its last image."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import event, select

from db.leases import LeaseDenied, PendingImage, lease_chunk, record_results
from db.ledger import Ledger
from db.runs import Run, count_by_class, count_images, failures_by_reason, progress
from db.schema import chunks, results
from tests.support.concurrency import at_once
from tests.support.made_runs import counts_by_rows, counts_of_chunks, finish, lease, some_files, take

WRITERS = 6
CHUNKS_EACH = 10


def work_off(url: str, run_id: int, writer: int) -> int:
    """As a worker process: lease whatever is free and record it, image by image and all at once."""
    ledger = Ledger(url)
    recorded = 0
    for turn in range(WRITERS * CHUNKS_EACH):
        number = (turn + writer * CHUNKS_EACH) % (WRITERS * CHUNKS_EACH) + 1
        held = ledger.write(lease_chunk, run_id, number, f"worker {writer}", 60.0)
        if isinstance(held, LeaseDenied):
            continue
        rows = [{"image_id": image.id, "status": "done", "class": "Normal"} for image in held.images]
        for row in rows[:2]:
            ledger.write(record_results, held, [row])
        ledger.write(record_results, held, rows[2:])
        recorded += len(rows)
    ledger.close()
    return recorded


def row_of(ledger: Ledger, image: PendingImage) -> Any:
    with ledger.read() as connection:
        return connection.execute(select(results).where(results.c.image_id == image.id)).one()


def test_everything_that_made_a_result_is_kept(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    row = {
        "sha256": "ab" * 32,
        "width": 512,
        "height": 400,
        "class": "Tuberculosis",
        "probability": 0.75,
        "probabilities": {"Normal": 0.25, "Tuberculosis": 0.75},
        "target_class": "Tuberculosis",
        "logit": 1.5,
        "layer": "block_15_add,out_relu",
        "method": "gradcam",
        "heatmap_max": {"block_15_add": 2.5, "out_relu": 0.0},
        "blank": True,
        "overlay": "/overlays/x.jpg",
        "heatmap": None,
        "model_version": "first",
        "worker": "one",
        "attempts": 1,
    }
    ledger.write(record_results, held, [{"image_id": held.images[0].id, "status": "done", **row}])
    found = row_of(ledger, held.images[0])._mapping
    assert {name: found[name] for name in row} == row
    assert (found["status"], found["run_id"]) == ("done", run_of_ten.id)
    assert found["finished_at"].tzinfo is not None


def test_absent_values_are_null_in_sql_too(ledger: Ledger, run_of_ten: Run) -> None:
    finish(ledger, lease(ledger, run_of_ten, 1), status="failed", reason="empty")
    with ledger.read() as connection:
        nulls = select(results).where(results.c.probabilities.is_(None), results.c.heatmap_max.is_(None))
        assert len(connection.execute(nulls).all()) == 4


def test_late_duplicate_does_not_overwrite_done(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    finish(ledger, held, overlay="/overlays/right.jpg")
    finish(ledger, held, overlay="/overlays/late.jpg")
    finish(ledger, held, status="failed", reason="missing")
    assert {row_of(ledger, image).overlay for image in held.images} == {"/overlays/right.jpg"}
    assert counts_of_chunks(ledger, run_of_ten)[1] == (4, 4, 0)


def test_failed_may_become_done(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    finish(ledger, held, status="failed", reason="write-failed", error="no space left")
    assert counts_of_chunks(ledger, run_of_ten)[1] == (4, 0, 4)
    finish(ledger, held, status="done", overlay="/overlays/x.jpg")
    assert counts_of_chunks(ledger, run_of_ten)[1] == (4, 4, 0)
    row = row_of(ledger, held.images[0])
    assert (row.status, row.reason, row.error) == ("done", None, None)


def test_chunk_is_finished_exactly_with_its_last_image(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    for place, image in enumerate(held.images):
        assert ledger.query(progress, run_of_ten.id).finished_chunks == 0
        status = "failed" if place == 1 else "done"
        ledger.write(record_results, held, [{"image_id": image.id, "status": status}])
    found = ledger.query(progress, run_of_ten.id)
    assert (found.finished_chunks, found.leased_chunks, found.done, found.failed) == (1, 0, 3, 1)
    with ledger.read() as connection:
        row = connection.execute(select(chunks).where(chunks.c.number == 1)).one()
    assert (row.owner, row.lease_expires_at) == (None, None)
    assert row.finished_at is not None


def test_time_of_finishing_is_not_moved_by_a_duplicate(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    finish(ledger, held)
    statement = select(chunks.c.finished_at).where(chunks.c.number == 1)
    with ledger.read() as connection:
        before = connection.execute(statement).scalar_one()
    finish(ledger, held)
    with ledger.read() as connection:
        assert connection.execute(statement).scalar_one() == before


def test_image_named_twice_at_once_has_the_last_of_its_rows(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    image = held.images[0]
    ledger.write(
        record_results,
        held,
        [{"image_id": image.id, "status": "failed", "reason": why} for why in ("empty", "late")],
    )
    assert row_of(ledger, image).reason == "late"
    assert counts_of_chunks(ledger, run_of_ten)[1] == (4, 0, 1)


def test_recording_nothing_changes_nothing(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    ledger.write(record_results, held, [])
    assert counts_of_chunks(ledger, run_of_ten)[1] == (4, 0, 0)


def test_hostile_text_and_numbers_are_stored_on_both_databases(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    nan = float("nan")
    row = {"error": "cut\0off \udcff", "probabilities": {"A\0": nan, "B": 0.5}, "logit": nan}
    ledger.write(record_results, held, [{"image_id": held.images[0].id, "status": "failed", **row}])
    found = row_of(ledger, held.images[0])
    assert found.error == "cut\ufffdoff ?"
    assert found.probabilities == {"A\ufffd": None, "B": 0.5}
    assert found.logit is None


def test_summaries_count_what_was_recorded(ledger: Ledger, run_of_ten: Run) -> None:
    finish(ledger, lease(ledger, run_of_ten, 1), **{"class": "Normal"})
    finish(ledger, lease(ledger, run_of_ten, 3), **{"class": "Tuberculosis"})
    held = lease(ledger, run_of_ten, 2)
    reasons = ["empty", "truncated", "empty"]
    ledger.write(
        record_results,
        held,
        [
            {"image_id": image.id, "status": "failed", "reason": reason}
            for image, reason in zip(held.images, reasons, strict=False)
        ],
    )
    assert list(ledger.query(count_by_class, run_of_ten.id).items()) == [("Normal", 4), ("Tuberculosis", 2)]
    assert list(ledger.query(failures_by_reason, run_of_ten.id).items()) == [("empty", 2), ("truncated", 1)]
    found = ledger.query(progress, run_of_ten.id)
    assert (found.images, found.done, found.failed, found.pending) == (10, 6, 3, 1)
    assert not found.is_complete


def test_six_workers_lose_nothing_and_do_nothing_twice(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(WRITERS * CHUNKS_EACH * 5), batch=1000, chunk_size=5)
    url = ledger.url.render_as_string(hide_password=False)
    recorded = at_once(work_off, [(url, run.id, writer) for writer in range(WRITERS)])
    assert sum(recorded) == ledger.query(count_images, run.id) == WRITERS * CHUNKS_EACH * 5
    found = ledger.query(progress, run.id)
    assert found.is_complete
    assert (found.done, found.finished_chunks) == (WRITERS * CHUNKS_EACH * 5, WRITERS * CHUNKS_EACH)
    assert counts_of_chunks(ledger, run) == counts_by_rows(ledger, run)


def test_two_who_record_one_chunk_at_the_same_time_are_both_counted(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(2), chunk_size=2)
    held = lease(ledger, run, 1)
    other = Ledger(ledger.url.render_as_string(hide_password=False))

    def record(which: Ledger, image: PendingImage) -> None:
        which.write(record_results, held, [{"image_id": image.id, "status": "done"}])

    second = threading.Thread(target=record, args=(other, held.images[1]))

    def before_commit(_: Any) -> None:
        second.start()
        second.join(0.5)  # time to count without the first one's result, if it does not wait

    event.listen(ledger.engine, "commit", before_commit, once=True)
    record(ledger, held.images[0])
    second.join(30)
    assert counts_of_chunks(ledger, run) == {1: (2, 2, 0)}
    assert ledger.query(progress, run.id).finished_chunks == 1


def test_result_recorded_after_the_lease_ended_counts(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1, "one", seconds=0.0)
    other = lease(ledger, run_of_ten, 1, "two")
    finish(ledger, held)
    assert counts_of_chunks(ledger, run_of_ten)[1] == (4, 4, 0)
    finish(ledger, other, status="failed", reason="missing")
    assert counts_of_chunks(ledger, run_of_ten)[1] == (4, 4, 0)
