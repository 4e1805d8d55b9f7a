"""Taking files into a run: each exactly once, in chunks of the asked size, again without harm."""

from __future__ import annotations

import threading
from itertools import product

import pytest
from sqlalchemy import event

from db.errors import RunNotScanned
from db.ingest import IngestStats, RunIngest, ScannedFile, requeue_failed
from db.leases import (
    LeaseDenied,
    claim_unpublished,
    lease_chunk,
    mark_published,
    record_results,
    unfinished_chunks,
)
from db.ledger import Ledger
from db.runs import CANCELLED, OPEN, SCANNING, STOPPED, Run, get_run, progress, set_state
from tests.support.concurrency import at_once
from tests.support.made_runs import (
    counts_by_rows,
    counts_of_chunks,
    finish,
    lease,
    open_some_run,
    paths,
    some_files,
    take,
)
from tests.support.servers import Postgres


def enqueue_folder(url: str, first: int, step: int) -> tuple[int, IngestStats]:
    """As a process of its own: take 600 files, beginning elsewhere than the others do."""
    ledger = Ledger(url)
    files = some_files(600)
    run, intake = take(ledger, files[first:] + files[:first], batch=step, chunk_size=8)
    ledger.close()
    return run.id, intake.counts


def open_new_run(url: str, force: bool) -> tuple[int, bool]:
    ledger = Ledger(url)
    run, is_new = open_some_run(ledger, force=force)
    ledger.close()
    return run.id, is_new


def assert_counts_are_right(ledger: Ledger, run: Run) -> None:
    assert counts_of_chunks(ledger, run) == counts_by_rows(ledger, run)


def test_chunks_are_full_but_for_the_last_whatever_the_batches(ledger: Ledger) -> None:
    for count, batch in product((1, 4, 9, 30), (1, 3, 4, 7, 100)):
        run, intake = take(ledger, some_files(count), batch, root=f"/{count}/{batch}", chunk_size=4)
        assert intake.counts == IngestStats(new=count)
        sizes = [images for _, (images, _, _) in sorted(counts_of_chunks(ledger, run).items())]
        assert sizes == [4] * (count // 4) + ([count % 4] if count % 4 else [])
        assert_counts_are_right(ledger, run)


def test_run_is_open_after_its_scan(ledger: Ledger) -> None:
    run, is_new = open_some_run(ledger)
    assert (run.state, run.scanned_at) == (SCANNING, None)
    RunIngest(ledger, run, is_new=is_new).close()
    closed = ledger.query(get_run, run.id)
    assert closed.state == OPEN
    assert closed.scanned_at is not None


def test_run_cancelled_during_its_scan_stays_cancelled(ledger: Ledger) -> None:
    run, is_new = open_some_run(ledger)
    ledger.write(set_state, run.id, CANCELLED)
    RunIngest(ledger, run, is_new=is_new).close()
    assert ledger.query(get_run, run.id).state == CANCELLED


def test_an_open_run_stays_open_while_a_later_scan_adds_to_it(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(4))
    ledger.write(mark_published, run.id, [1])
    finish(ledger, lease(ledger, run, 1))
    again, is_new = open_some_run(ledger)
    assert not is_new
    broken_off = RunIngest(ledger, again, is_new=False)
    broken_off.add(some_files(7))
    assert ledger.query(get_run, run.id).state == OPEN
    assert not ledger.query(progress, run.id).is_complete
    # Whoever waits for the run has what was added sent to the workers, though its scan never ends.
    assert [part.numbers for part in claim_unpublished(ledger, -1.0)] == [(2,)]
    finish(ledger, lease(ledger, run, 2))
    assert ledger.query(progress, run.id).is_complete
    ledger.write(requeue_failed, run)


@pytest.mark.parametrize("state", [CANCELLED, STOPPED])
def test_a_halted_run_is_open_after_the_scan_that_takes_it_up_and_not_before(
    ledger: Ledger, state: str
) -> None:
    run, _ = take(ledger, some_files(4))
    ledger.write(set_state, run.id, state)
    again, _ = open_some_run(ledger)
    intake = RunIngest(ledger, again, is_new=False)
    intake.add(some_files(7))
    assert ledger.query(get_run, run.id).state == STOPPED
    assert ledger.write(lease_chunk, run.id, 2, "one", 60.0) is LeaseDenied.STOPPED
    assert claim_unpublished(ledger, -1.0) == []
    intake.close()
    assert ledger.query(get_run, run.id).state == OPEN

    ledger.write(set_state, run.id, state)
    again, _ = open_some_run(ledger)
    ledger.write(set_state, run.id, CANCELLED)
    RunIngest(ledger, again, is_new=False).close()
    assert ledger.query(get_run, run.id).state == CANCELLED


@pytest.mark.parametrize("state", [SCANNING, CANCELLED])
def test_a_run_whose_first_scan_was_broken_off_is_not_taken_for_whole(ledger: Ledger, state: str) -> None:
    run, is_new = open_some_run(ledger)
    RunIngest(ledger, run, is_new=is_new).add(some_files(4))
    finish(ledger, lease(ledger, run, 1), "failed", reason="missing")
    ledger.write(set_state, run.id, state)
    with pytest.raises(RunNotScanned, match="does not know all its files"):
        ledger.write(requeue_failed, run)
    found = ledger.query(get_run, run.id)
    assert (found.state, found.is_scanned) == (state, False)
    assert ledger.query(progress, run.id).failed == 4

    again, is_new = open_some_run(ledger)
    assert ledger.query(get_run, run.id).state == SCANNING
    other, is_new = open_some_run(ledger)  # a second one at the same time
    RunIngest(ledger, other, is_new=is_new).close()
    assert ledger.query(get_run, run.id).is_scanned
    RunIngest(ledger, again, is_new=False).close()
    assert ledger.query(get_run, run.id).state == OPEN
    assert ledger.write(requeue_failed, run) == 4


@pytest.mark.parametrize("how", ["sent", "leased"])
def test_a_chunk_that_was_begun_is_not_filled_further(ledger: Ledger, how: str) -> None:
    run, is_new = open_some_run(ledger)
    intake = RunIngest(ledger, run, is_new=is_new)
    intake.add(some_files(2))
    held = None
    if how == "sent":
        ledger.write(mark_published, run.id, [1])
    else:
        held = lease(ledger, run, 1)
    intake.add(some_files(5, first=2))
    assert sorted(counts_of_chunks(ledger, run).values()) == [(1, 0, 0), (2, 0, 0), (4, 0, 0)]
    if held is not None:
        finish(ledger, held)
        assert counts_of_chunks(ledger, run)[1] == (2, 2, 0)


def test_same_request_continues_its_run(ledger: Ledger) -> None:
    first, is_new = open_some_run(ledger)
    assert is_new
    assert first.output == f"/overlays/run-{first.id:06d}"
    to_requeue, is_new = open_some_run(ledger)
    assert (to_requeue.id, to_requeue.output, is_new) == (first.id, first.output, False)


def test_another_request_is_another_run(ledger: Ledger) -> None:
    first, _ = open_some_run(ledger)
    others: list[dict[str, object]] = [
        {"root": "/elsewhere"},
        {"output": "/other"},
        {"options": {"layers": ["out_relu"]}},
        {"model_version": "second"},
        {"force": True},
    ]
    opened = [open_some_run(ledger, **other) for other in others]
    assert all(is_new for _, is_new in opened)
    assert len({run.id for run, _ in opened} | {first.id}) == 6


def test_forced_run_is_the_one_that_is_continued_later(ledger: Ledger) -> None:
    open_some_run(ledger)
    forced, _ = open_some_run(ledger, force=True)
    to_requeue, is_new = open_some_run(ledger)
    assert (to_requeue.id, is_new) == (forced.id, False)


def test_chunk_size_of_a_continued_run_is_its_own(ledger: Ledger) -> None:
    take(ledger, some_files(4), chunk_size=4)
    run, _ = take(ledger, some_files(12), chunk_size=100)
    assert sorted(counts_of_chunks(ledger, run).values()) == [(4, 0, 0)] * 3


def test_files_known_already_are_left_alone(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(10))
    finish(ledger, lease(ledger, run, 1))
    before = counts_of_chunks(ledger, run)
    _, intake = take(ledger, some_files(10))
    assert intake.counts == IngestStats(unchanged=10)
    assert counts_of_chunks(ledger, run) == before == counts_by_rows(ledger, run)
    assert [number for batch in unfinished_chunks(ledger, run.id) for number in batch] == [2, 3]


def test_changed_and_failed_files_are_done_again_and_no_others(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(12))
    finish(ledger, lease(ledger, run, 1))
    finish(ledger, lease(ledger, run, 2), status="failed", reason="empty")
    changed = [ScannedFile(file.path, file.size + 1, file.modified_ns) for file in some_files(2)]
    touched = [ScannedFile(file.path, file.size, 2000) for file in some_files(1, first=2)]
    _, intake = take(ledger, changed + touched + some_files(9, first=3) + some_files(5, first=12))
    assert intake.counts == IngestStats(new=5, unchanged=5, changed=3, retried=4)
    assert_counts_are_right(ledger, run)
    found = ledger.query(progress, run.id)
    assert (found.images, found.done, found.failed, found.pending) == (17, 1, 0, 16)
    pending = {
        image.path
        for batch in unfinished_chunks(ledger, run.id)
        for number in batch
        for image in lease(ledger, run, number).images
    }
    assert pending == set(paths(ledger, run)) - {"ward/x0003.png"}


def test_chunk_whose_images_all_changed_is_no_more(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(4))
    take(ledger, some_files(4, size=11))
    assert counts_of_chunks(ledger, run) == {2: (4, 0, 0)}
    assert ledger.write(lease_chunk, run.id, 1, "one", 60) is LeaseDenied.UNKNOWN


def test_chunk_left_by_its_last_pending_image_is_finished(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(4))
    held = lease(ledger, run, 1)
    ledger.write(
        record_results, held, [{"image_id": image.id, "status": "done"} for image in held.images[1:]]
    )
    take(ledger, [ScannedFile(held.images[0].path, 11, 1000)])
    assert ledger.write(lease_chunk, run.id, 1, "two", 60) is LeaseDenied.FINISHED
    assert counts_of_chunks(ledger, run) == {1: (3, 3, 0), 2: (1, 0, 0)}


def test_result_of_a_file_that_changed_meanwhile_is_dropped(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(2))
    held = lease(ledger, run, 1)
    take(ledger, some_files(1, size=11))
    finish(ledger, held)
    assert counts_of_chunks(ledger, run) == {1: (1, 1, 0), 2: (1, 0, 0)}
    assert [image.path for image in lease(ledger, run, 2).images] == ["ward/x0000.png"]


def test_file_found_changed_while_its_result_is_recorded_is_done_again(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(3), chunk_size=3)
    held = lease(ledger, run, 1)
    other = Ledger(ledger.url.render_as_string(hide_password=False))
    scan = threading.Thread(target=take, args=(other, some_files(1, size=11)))

    def before_commit(_: object) -> None:
        scan.start()
        scan.join(0.5)  # time to go on without the result, if it does not wait

    event.listen(ledger.engine, "commit", before_commit, once=True)
    finish(ledger, held)
    scan.join(30)
    assert counts_of_chunks(ledger, run) == {1: (2, 2, 0), 2: (1, 0, 0)} == counts_by_rows(ledger, run)


def test_workers_record_while_a_folder_is_taken_in(postgres: Postgres, migrated_template: str) -> None:
    url = postgres.new_database(migrated_template)
    ledger, other = Ledger(url), Ledger(url)
    run, _ = take(ledger, some_files(4))
    held = lease(other, run, 1)
    recorded = threading.Event()

    def record() -> None:
        finish(other, held)
        recorded.set()

    worker = threading.Thread(target=record)

    def before_commit(_: object) -> None:
        worker.start()
        assert recorded.wait(10)

    run, is_new = open_some_run(ledger)
    event.listen(ledger.engine, "commit", before_commit, once=True)
    RunIngest(ledger, run, is_new=is_new).add(some_files(4, first=4))
    worker.join(30)
    assert counts_of_chunks(ledger, run) == {1: (4, 4, 0), 2: (4, 0, 0)}


def test_file_seen_twice_by_a_scan_is_one_image(ledger: Ledger) -> None:
    run, intake = take(ledger, some_files(3) + some_files(3) + some_files(3), batch=5)
    assert intake.counts.new == 3
    assert len(paths(ledger, run)) == 3
    assert_counts_are_right(ledger, run)


def test_batch_whose_commit_was_not_confirmed_is_taken_once(ledger: Ledger) -> None:
    run, is_new = open_some_run(ledger)
    intake = RunIngest(ledger, run, is_new=is_new)
    intake.add(some_files(3))
    RunIngest(ledger, run, is_new=True).add(some_files(3, first=3))  # committed, but we do not know it
    intake.add(some_files(3, first=3))
    intake.add(some_files(7, first=6))
    intake.close()
    assert len(paths(ledger, run)) == 13
    assert_counts_are_right(ledger, run)
    assert all(images <= run.chunk_size for images, _, _ in counts_of_chunks(ledger, run).values())


def test_names_that_sql_and_json_could_stumble_over(ledger: Ledger) -> None:
    names = [
        "it's.png",
        'a "b".png',
        "new\nline.png",
        "back\\slash.png",
        "%s{}.png",
        "größe 日本 🩻.png",
        ",.png",
    ]
    files = [ScannedFile(name, 1, 1) for name in names]
    run, _ = take(ledger, files)
    assert paths(ledger, run) == sorted(names)
    _, to_requeue = take(ledger, files)
    assert to_requeue.counts == IngestStats(unchanged=len(names))


def test_large_numbers_are_kept(ledger: Ledger) -> None:
    big = ScannedFile("x.png", 2**62, 2**63 - 1)
    take(ledger, [big])
    _, to_requeue = take(ledger, [big])
    assert to_requeue.counts == IngestStats(unchanged=1)


def test_three_who_enqueue_one_folder_at_once_give_each_image_once(ledger: Ledger) -> None:
    url = ledger.url.render_as_string(hide_password=False)
    found = at_once(enqueue_folder, [(url, 0, 50), (url, 200, 37), (url, 400, 64)])
    assert {run_id for run_id, _ in found} == {1}
    counts = [counts for _, counts in found]
    assert sum(count.new for count in counts) == 600
    assert all(count.new + count.unchanged == 600 for count in counts)
    run = ledger.query(get_run, 1)
    assert paths(ledger, run) == [file.path for file in some_files(600)]
    assert_counts_are_right(ledger, run)
    assert all(images <= 8 for images, _, _ in counts_of_chunks(ledger, run).values())


@pytest.mark.parametrize("force", [False, True])
def test_six_who_open_one_run_at_once(ledger: Ledger, force: bool) -> None:
    url = ledger.url.render_as_string(hide_password=False)
    found = at_once(open_new_run, [(url, force)] * 6)
    assert len({run_id for run_id, _ in found}) == (6 if force else 1)
    assert sum(is_new for _, is_new in found) == (6 if force else 1)


def test_retry_makes_failed_images_pending_and_no_others(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(12))
    finish(ledger, lease(ledger, run, 1))
    finish(ledger, lease(ledger, run, 2), status="failed", reason="empty")
    finish(ledger, lease(ledger, run, 3), status="failed", reason="truncated")
    ledger.write(set_state, run.id, CANCELLED)
    assert ledger.write(requeue_failed, run, ["missing"]) == 0
    assert ledger.query(get_run, run.id).state == CANCELLED
    assert ledger.write(requeue_failed, run, ["truncated"]) == 4
    assert ledger.query(get_run, run.id).state == OPEN
    assert counts_of_chunks(ledger, run) == {1: (4, 4, 0), 2: (4, 0, 4), 4: (4, 0, 0)}
    assert_counts_are_right(ledger, run)
    assert [image.attempts for image in lease(ledger, run, 4).images] == [0, 0, 0, 0]
    assert ledger.write(requeue_failed, run) == 4
    assert ledger.write(requeue_failed, run) == 0
    assert_counts_are_right(ledger, run)


def test_retry_spreads_many_failed_over_full_chunks(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(30), chunk_size=10)
    for number in (1, 2, 3):
        held = lease(ledger, run, number)
        rows = [{"image_id": image.id, "status": "failed", "reason": "empty"} for image in held.images[:9]]
        ledger.write(record_results, held, rows)
    assert ledger.write(requeue_failed, run) == 27
    assert sorted(counts_of_chunks(ledger, run).values()) == [(1, 0, 0)] * 3 + [(7, 0, 0)] + [(10, 0, 0)] * 2
    assert_counts_are_right(ledger, run)


def test_batch_of_thousands_takes_few_statements(ledger: Ledger) -> None:
    statements: list[str] = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    run, is_new = open_some_run(ledger, chunk_size=10)
    intake = RunIngest(ledger, run, is_new=is_new)
    del statements[:]
    intake.add(some_files(3000))
    assert len(statements) < 12
