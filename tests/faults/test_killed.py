"""Whatever is killed, every image of a run ends in exactly one row, its overlay written."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from counting import assert_each_once, children, enqueue, nodes
from installation import Installation, children_of, draw_many
from PIL import Image
from servers import Valkey, wait_until
from sqlalchemy import select

from db.schema import chunks, images, results
from worker.queue.queueing import EXPLAIN_QUEUE

IMAGES = 300


@pytest.fixture
def xrays(distributed: Installation) -> Path:
    """Three hundred images, decoded slowly enough to kill something in the middle."""
    distributed.set(chunk_size=8, lease_seconds=5, stop_seconds=10)
    distributed.sabotage(seconds=0.01)
    return draw_many(distributed.folder / "xrays", IMAGES)


both_databases = pytest.mark.parametrize("distributed", ["sqlite", "postgres"], indirect=True)


@both_databases
def test_killed_worker_child_is_replaced_and_its_chunk_done_again(
    distributed: Installation, xrays: Path
) -> None:
    distributed.start("worker")
    enqueue(distributed, xrays)
    distributed.wait_done(40)
    (child,) = children(distributed)

    distributed.kill(child)

    distributed.wait_complete()
    assert_each_once(distributed)


def test_killed_worker_process_is_restarted_by_its_launcher(distributed: Installation, xrays: Path) -> None:
    distributed.start("worker")
    enqueue(distributed, xrays)
    distributed.wait_done(40)
    (node,) = nodes(distributed)

    distributed.kill(node)

    distributed.wait_complete()
    assert_each_once(distributed)


@both_databases
def test_whole_machine_killed_then_worker_and_resume_complete_the_run(
    distributed: Installation, xrays: Path
) -> None:
    distributed.start("worker")
    enqueue(distributed, xrays)
    distributed.wait_done(40)

    for process in distributed.processes():
        distributed.kill(process)
    wait_until(lambda: not distributed.processes(), 10, "all dead")
    assert distributed.counts()["done"] < IMAGES

    distributed.start("worker")
    distributed.xraycam("resume", 1)
    distributed.wait_complete()
    assert_each_once(distributed)


def test_workers_end_when_their_launcher_is_killed(distributed: Installation, xrays: Path) -> None:
    launcher = distributed.start("worker")
    enqueue(distributed, xrays)
    distributed.wait_done(8)

    launcher.kill()

    wait_until(lambda: not distributed.processes(), 30, "no orphan")


@both_databases
def test_killed_broker_comes_back_and_the_run_completes(
    distributed: Installation, xrays: Path, valkey: Valkey
) -> None:
    distributed.start("worker")
    enqueue(distributed, xrays)
    distributed.wait_done(40)

    valkey.restart()
    distributed.xraycam("resume", 1)

    distributed.wait_complete()
    assert_each_once(distributed)


def test_wiped_broker_is_mended_by_resume(distributed: Installation, xrays: Path, valkey: Valkey) -> None:
    distributed.start("worker")
    enqueue(distributed, xrays)
    distributed.wait_done(40)

    valkey.client().flushall()
    distributed.xraycam("resume", 1)

    distributed.wait_complete()
    assert_each_once(distributed)


def test_messages_delivered_twice_are_done_once(distributed: Installation, xrays: Path) -> None:
    enqueue(distributed, xrays)
    distributed.xraycam("resume", 1)
    distributed.xraycam("resume", 1)
    distributed.start("worker")

    distributed.wait_complete()

    assert_each_once(distributed)
    with distributed.ledger.read() as connection:
        assert set(connection.execute(select(images.c.attempts)).scalars()) == {1}


def test_private_broker_killed_in_mid_run_is_started_again(installation: Installation) -> None:
    xrays = draw_many(installation.folder / "xrays", 200)
    installation.set(chunk_size=8)
    installation.sabotage(seconds=0.02)
    run = installation.start("run", xrays)
    wait_until(lambda: installation.home.exists() and installation.some_done(16), 60, "some images done")
    (server,) = children_of(installation.processes(), "valkey-server")

    installation.kill(server)

    assert run.wait(120) == 0
    assert_each_once(installation, 200)


@pytest.mark.parametrize("poison", ["kill", "hang"])
def test_poison_image_fails_after_three_attempts_and_its_neighbours_are_done(
    distributed: Installation, poison: str
) -> None:
    distributed.set(chunk_size=32, image_seconds=4, lease_seconds=5)
    distributed.sabotage(poison=poison)
    xrays = draw_many(distributed.folder / "xrays", 60)
    Image.new("L", (77, 77)).save(xrays / "poison.png")
    distributed.start("worker")
    enqueue(distributed, xrays)

    distributed.wait_complete(seconds=200)

    assert distributed.counts() == {"images": 61, "done": 60, "failed": 1}
    with distributed.ledger.read() as connection:
        failed = connection.execute(
            select(images.c.path, images.c.attempts, results.c.reason)
            .join(results, results.c.image_id == images.c.id)
            .where(results.c.status == "failed")
        ).all()
    assert failed == [("poison.png", 3, "killed-worker")]


def test_sigterm_lets_a_worker_finish_its_chunk_and_blames_no_image(
    distributed: Installation, xrays: Path, valkey: Valkey
) -> None:
    worker = distributed.start("worker")
    enqueue(distributed, xrays)
    distributed.wait_done(40)

    worker.send_signal(signal.SIGTERM)

    assert worker.wait(30) == 0
    wait_until(lambda: not distributed.processes(), 10, "no process left")
    with distributed.ledger.read() as connection:
        pending = connection.execute(
            select(images.c.attempts)
            .outerjoin(results, results.c.image_id == images.c.id)
            .where(results.c.image_id.is_(None))
        ).scalars()
        assert set(pending) <= {0}
        assert not connection.execute(select(chunks.c.number).where(chunks.c.owner.is_not(None))).all()
    assert valkey.client().llen(EXPLAIN_QUEUE) > 0
    distributed.start("worker")
    distributed.wait_complete()
    assert_each_once(distributed)
