"""A new model becomes current during a run: nothing is lost, and a bad one is refused."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import func, select

from db.models import add_model, promote_model
from db.schema import results
from db.workers import Worker, list_workers
from tests.support.installation import Installation, draw_many
from tests.support.servers import wait_until
from worker.model.metadata import digest_of
from worker.model.store import ModelStore


def workers(installation: Installation) -> list[Worker]:
    return installation.ledger.query(list_workers)


def all_hold(installation: Installation, version: str, count: int) -> bool:
    found = workers(installation)
    return len(found) == count and all(worker.model_version == version for worker in found)


def rows_by_version(installation: Installation) -> dict[str, int]:
    with installation.ledger.read() as connection:
        found = connection.execute(
            select(results.c.model_version, func.count())
            .where(results.c.status == "done")
            .group_by(results.c.model_version)
        )
        return dict(found.all())


def test_busy_workers_change_to_a_new_model_between_chunks_and_lose_nothing(
    distributed: Installation, newer: Path
) -> None:
    distributed.set(chunk_size=8)
    distributed.sabotage(seconds=0.2)  # longer in all than it takes to load a model on a busy machine
    xrays = draw_many(distributed.folder / "xrays", 600)
    distributed.start("worker")
    distributed.start("worker")
    wait_until(lambda: all_hold(distributed, "small", 2), 90, "two workers ready")
    distributed.xraycam("enqueue", xrays)
    distributed.wait_done(48)

    distributed.xraycam("models", "import", newer, "--promote")

    wait_until(lambda: all_hold(distributed, "newer", 2), 30, "both workers hold the new model")
    assert not distributed.some_done(600), "the run was over before the new model came: nothing shown"
    distributed.wait_complete()
    assert distributed.counts() == {"images": 600, "done": 600}
    by_version = rows_by_version(distributed)
    assert by_version.keys() == {"small", "newer"}
    with distributed.ledger.read() as connection:
        assert set(connection.execute(select(results.c.attempts)).scalars()) == {1}


def test_idle_workers_load_a_promoted_model_within_ten_seconds_and_a_late_one_starts_with_it(
    distributed: Installation, newer: Path
) -> None:
    distributed.start("worker")
    wait_until(lambda: all_hold(distributed, "small", 1), 60, "the worker is ready")

    distributed.xraycam("models", "import", newer, "--promote")

    wait_until(lambda: all_hold(distributed, "newer", 1), 10, "the new model within 10 s")
    distributed.start("worker")  # was down when the signal was sent
    wait_until(lambda: all_hold(distributed, "newer", 2), 60, "the late worker has it too")
    distributed.xraycam("models", "rollback")
    wait_until(lambda: all_hold(distributed, "small", 2), 10, "the old model within 10 s")


def test_a_damaged_model_is_refused_and_the_old_one_keeps_serving(
    distributed: Installation, newer: Path
) -> None:
    distributed.without_tensorflow()
    distributed.start("worker")
    wait_until(lambda: all_hold(distributed, "small", 1), 60, "the worker is ready")
    ledger, digest = distributed.ledger, digest_of(newer)
    ModelStore(str(distributed.home / "models"), distributed.folder / "cache").publish(newer)
    weights = distributed.home / "models" / "newer" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    ledger.write(
        add_model,
        version="newer",
        digest=digest,
        classes=("Normal", "Tuberculosis"),
        source="test",
        metrics={},
    )

    refused = distributed.xraycam("models", "promote", "newer", status=2)
    assert "damaged" in refused.stderr
    ledger.write(promote_model, "newer")  # and if somebody promotes it all the same:

    xrays = draw_many(distributed.folder / "xrays", 40)
    distributed.xraycam("enqueue", xrays, "--model", "small")
    refused = distributed.xraycam("enqueue", xrays, status=2)
    assert f"{distributed.home}/models/newer/weights.safetensors is damaged" in refused.stderr
    distributed.wait_complete()
    wait_until(
        lambda: any("newer" in (worker.last_error or "") for worker in workers(distributed)), 40, "a fault"
    )
    (worker,) = workers(distributed)
    assert worker.model_version == "small"
    assert "damaged" in (worker.last_error or "")
    assert "small stays in use" in (worker.last_error or "")
    assert "damaged" in distributed.xraycam("workers").stdout


def test_runs_that_pin_a_version_keep_it(distributed: Installation, newer: Path) -> None:
    distributed.without_tensorflow()
    xrays = draw_many(distributed.folder / "xrays", 30)
    distributed.xraycam("models", "import", newer, "--promote")
    distributed.xraycam("enqueue", xrays, "--model", "small")
    distributed.start("worker")
    distributed.wait_complete()
    assert rows_by_version(distributed) == {"small": 30}
