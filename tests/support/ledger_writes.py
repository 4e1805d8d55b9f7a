"""A call of every public function of the ledger that writes, with what must be there before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import select

from db.deletion import cancel_for_deletion, delete_model, delete_run
from db.exports import upsert_exports
from db.gone_files import mark_found, mark_gone
from db.ingest import RunIngest, requeue_failed
from db.leases import (
    Lease,
    claim_unpublished,
    increment_attempts,
    lease_chunk,
    lease_following,
    mark_published,
    reclaim_expired,
    reclaim_from_worker,
    record_results,
    release_lease,
    release_leases_of,
    renew_lease,
)
from db.ledger import Ledger
from db.models import add_model, promote_model, rollback_model
from db.operating_points import save_site_threshold
from db.reviews import remove_review, save_review
from db.runs import Run, get_run, open_run, set_state, stop_run
from db.schema import images, metadata
from db.trainings import (
    Training,
    add_training,
    cancel_training,
    claim_unpublished_trainings,
    fail_training,
    finish_training,
    record_epoch,
    renew_training,
    requeue_training,
    requeue_trainings_of,
    set_stage,
    start_training,
)
from db.workers import register_worker, remove_worker, update_worker
from tests.support.made_runs import finish, lease, open_some_run, some_files


def state(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables; of a time, whether it is set."""
    found = {}
    with ledger.read() as connection:
        for table in metadata.sorted_tables:
            columns = [
                column.is_not(None) if column.name.endswith("_at") else column for column in table.columns
            ]
            rows = connection.execute(select(*columns)).all()
            found[table.name] = sorted(tuple(map(repr, row)) for row in rows)
    return found


RUN = {"root": "/x", "output": "/o", "options": {}, "model_version": "m", "pinned": False, "chunk_size": 4}


def training_of(ledger: Ledger) -> Training:
    return ledger.write(
        add_training, dataset="/d", recipe={"name": "default"}, init_weights="none", options={}, epochs=2
    )


def started_training(ledger: Ledger) -> Training:
    found = ledger.write(start_training, training_of(ledger).id, "one", 60)
    assert found is not None
    return found


def failed_training(ledger: Ledger) -> Training:
    found = started_training(ledger)
    ledger.write(fail_training, found, "why")
    return found


def run_of_six(ledger: Ledger) -> Run:
    """A run of six images in two chunks, open for workers."""
    run, is_new = open_some_run(ledger)
    ingest = RunIngest(ledger, run, is_new=is_new)
    ingest.add(some_files(6))
    ingest.close()
    return run


def leased(ledger: Ledger) -> Lease:
    return lease(ledger, run_of_six(ledger), 1)


def leased_of_two(ledger: Ledger) -> Lease:
    held = leased(ledger)
    ledger.write(mark_published, held.run.id, [1, 2])
    return held


def leased_and_ended(ledger: Ledger) -> Lease:
    return lease(ledger, run_of_six(ledger), 1, seconds=-1.0)


def half_failed(ledger: Ledger) -> Run:
    finish(ledger, leased(ledger), status="failed", reason="unreadable")
    return ledger.query(get_run, 1)


def ingest_of_new(ledger: Ledger) -> RunIngest:
    run, is_new = open_some_run(ledger)
    return RunIngest(ledger, run, is_new=is_new)


def ingest_of_known(ledger: Ledger) -> RunIngest:
    """Of a run that has finished, failed and pending images."""
    half_failed(ledger)
    run, is_new = open_some_run(ledger)
    return RunIngest(ledger, run, is_new=is_new)


def added(_ledger: Ledger, ingest: RunIngest) -> str:
    ingest.add([*some_files(4), *some_files(2, first=4, size=11), *some_files(7, first=6)])
    # The next batch fills the chunk that the first left open, by what the first told.
    ingest.add(some_files(3, first=13))
    return repr(ingest.counts)


def model(ledger: Ledger, version: str, **given: Any) -> None:
    ledger.write(
        add_model, version=version, digest="0" * 64, classes=("a", "b"), source="s", metrics={}, **given
    )


def two_models(ledger: Ledger) -> None:
    for version in ("first", "second", "third"):
        model(ledger, version, promote=version != "third")


def worker(ledger: Ledger) -> None:
    ledger.write(register_worker, name="one", host="h", pid=1, device="cpu", queues="explain")


def cancelled_run(ledger: Ledger) -> Run:
    run = run_of_six(ledger)
    ledger.write(set_state, run.id, "cancelled")
    return run


def keys_of_six(ledger: Ledger) -> list[int]:
    run = run_of_six(ledger)
    with ledger.read() as connection:
        return list(connection.execute(select(images.c.id).where(images.c.run_id == run.id)).scalars())


def with_gone_images(ledger: Ledger) -> list[int]:
    keys = keys_of_six(ledger)
    ledger.write(mark_gone, keys)
    return keys


def nothing(_ledger: Ledger) -> None:
    return None


EPOCH = {"stage": "head", "epoch": 1, "loss": 0.5, "val_loss": 0.6, "val_auc": 0.7}


def reviewable(ledger: Ledger) -> tuple[int, int]:
    """Run and image of a result with a class."""
    run = run_of_six(ledger)
    held = lease(ledger, run, 1)
    finish(ledger, held, **{"class": "Normal"})
    return run.id, held.images[0].id


def reviewed(ledger: Ledger) -> tuple[int, int]:
    run, image = reviewable(ledger)
    ledger.write(save_review, run, image, "first", "agree", None, None)
    return run, image


THRESHOLD: dict[str, Any] = {
    "site": "here", "model_version": "third", "digest": "0" * 64, "threshold": 40.0, "figures": {},
}  # fmt: skip


def calibrated(ledger: Ledger) -> None:
    two_models(ledger)
    ledger.write(save_site_threshold, **THRESHOLD)


def deleted(ledger: Ledger) -> None:
    two_models(ledger)
    ledger.write(delete_model, "third")


def export_of(held: Lease) -> dict[str, Any]:
    return {
        "run_id": held.run_id, "image_id": held.images[0].id, "kind": "capture", "target": "/out",
        "instance_uid": "1.2.3", "series_uid": "1.2", "source_sha256": "0" * 64, "model_version": "v",
        "state": "retry", "answer": "busy",
    }  # fmt: skip


# What was there before, and the call; the name begins with the function's.
WRITES: dict[str, tuple[Callable[[Ledger], Any], Callable[[Ledger, Any], Any]]] = {
    "add_model": (nothing, lambda ledger, _: model(ledger, "v", promote=True)),
    "add_model, deleted before": (deleted, lambda ledger, _: model(ledger, "third")),
    "add_training": (nothing, lambda ledger, _: training_of(ledger)),
    "cancel_training": (started_training, lambda ledger, held: ledger.write(cancel_training, held.id)),
    "claim_unpublished": (run_of_six, lambda ledger, _: claim_unpublished(ledger, -1.0)),
    "claim_unpublished_trainings": (
        training_of,
        lambda ledger, _: ledger.write(claim_unpublished_trainings, -1.0),
    ),
    "cancel_for_deletion": (run_of_six, lambda ledger, run: ledger.write(cancel_for_deletion, run.id)),
    "delete_model": (calibrated, lambda ledger, _: ledger.write(delete_model, "third")),
    "delete_run": (cancelled_run, lambda ledger, run: ledger.write(delete_run, run.id)),
    "mark_found": (with_gone_images, lambda ledger, keys: ledger.write(mark_found, keys)),
    "mark_gone": (keys_of_six, lambda ledger, keys: ledger.write(mark_gone, keys)),
    "save_site_threshold": (two_models, lambda ledger, _: ledger.write(save_site_threshold, **THRESHOLD)),
    "upsert_exports": (leased, lambda ledger, held: ledger.write(upsert_exports, [export_of(held)])),
    "fail_training": (started_training, lambda ledger, held: ledger.write(fail_training, held, "why")),
    "finish_training": (
        started_training,
        lambda ledger, held: ledger.write(finish_training, held, version="v", promotion_reason="better"),
    ),
    "increment_attempts": (leased, lambda ledger, held: ledger.write(increment_attempts, held.images[0].id)),
    "lease_chunk": (run_of_six, lambda ledger, run: ledger.write(lease_chunk, run.id, 1, "one", 60)),
    "lease_chunk, taken over": (leased, lambda ledger, _: ledger.write(lease_chunk, 1, 1, "one", 60)),
    "lease_following": (
        leased_of_two,
        lambda ledger, held: ledger.write(lease_following, held, [1], "one", 60),
    ),
    "mark_published": (run_of_six, lambda ledger, run: ledger.write(mark_published, run.id, [1, 2])),
    "open_run": (nothing, lambda ledger, _: ledger.write(open_run, **RUN)),
    "open_run, continued": (run_of_six, lambda ledger, _: open_some_run(ledger)),
    "open_run, forced": (run_of_six, lambda ledger, _: open_some_run(ledger, force=True)),
    "promote_model": (two_models, lambda ledger, _: ledger.write(promote_model, "third")),
    "reclaim_expired": (leased_and_ended, lambda ledger, _: reclaim_expired(ledger)),
    "reclaim_from_worker": (leased, lambda ledger, _: reclaim_from_worker(ledger, "one")),
    "record_epoch": (started_training, lambda ledger, held: ledger.write(record_epoch, held, [EPOCH], 9.0)),
    "record_results": (
        leased,
        lambda ledger, held: ledger.write(
            record_results,
            held,
            [{"image_id": image.id, "status": "done", "class": "a"} for image in held.images],
        ),
    ),
    "register_worker": (nothing, lambda ledger, _: worker(ledger)),
    "release_lease": (leased, lambda ledger, held: ledger.write(release_lease, held, "one")),
    "release_leases_of": (leased, lambda ledger, _: ledger.write(release_leases_of, "one")),
    "release_leases_of, refunded": (
        leased,
        lambda ledger, _: ledger.write(release_leases_of, "one", refund_attempts=True),
    ),
    "remove_review": (reviewed, lambda ledger, keys: ledger.write(remove_review, *keys, "first")),
    "save_review": (
        reviewable,
        lambda ledger, keys: ledger.write(save_review, *keys, "first", "agree", None, "clear"),
    ),
    "remove_worker": (worker, lambda ledger, _: ledger.write(remove_worker, "one")),
    "renew_lease": (leased, lambda ledger, held: ledger.write(renew_lease, held, "one", 60)),
    "renew_training": (started_training, lambda ledger, held: ledger.write(renew_training, held, 60)),
    "requeue_failed": (half_failed, lambda ledger, run: ledger.write(requeue_failed, run)),
    "requeue_training": (failed_training, lambda ledger, held: ledger.write(requeue_training, held.id)),
    "requeue_trainings_of": (started_training, lambda ledger, _: ledger.write(requeue_trainings_of, "one")),
    "rollback_model": (two_models, lambda ledger, _: ledger.write(rollback_model)),
    "RunIngest.add": (ingest_of_new, added),
    "RunIngest.add, to known images": (ingest_of_known, added),
    "RunIngest.close": (ingest_of_new, lambda _ledger, ingest: ingest.close()),
    "set_stage": (started_training, lambda ledger, held: ledger.write(set_stage, held, "head")),
    "set_state": (run_of_six, lambda ledger, run: ledger.write(set_state, run.id, "cancelled")),
    "start_training": (training_of, lambda ledger, held: ledger.write(start_training, held.id, "one", 60)),
    "stop_run": (run_of_six, lambda ledger, run: ledger.write(stop_run, run.id)),
    "update_worker": (worker, lambda ledger, _: ledger.write(update_worker, "one", activity="busy")),
}
