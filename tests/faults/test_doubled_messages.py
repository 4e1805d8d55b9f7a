"""Messages come twice, in any order, from several people at once; each image is done once."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

from tests.support.fault_runs import IMAGES, NoteFault, assert_each_once, enqueue, on_postgres
from tests.support.installation import Installation
from tests.support.servers import Valkey
from worker.queue.messages import EXPLAIN_QUEUE


def at_once(installation: Installation, *arguments: object) -> list[subprocess.Popen[str]]:
    """The same command twice, started together; both end well."""
    started = [installation.start(*arguments) for _ in range(2)]
    assert [process.wait(60) for process in started] == [0, 0]
    return started


@on_postgres
def test_every_message_twice_and_out_of_order(
    distributed: Installation, xrays: Path, valkey: Valkey, note_fault: NoteFault
) -> None:
    enqueue(distributed, xrays)
    client = valkey.client()
    messages = client.lrange(EXPLAIN_QUEUE, 0, -1)
    assert len(messages) == -(-IMAGES // 8)
    twice = messages * 2
    random.Random(5).shuffle(twice)
    client.delete(EXPLAIN_QUEUE)
    client.rpush(EXPLAIN_QUEUE, *twice)

    distributed.start("worker")
    distributed.start("worker")

    distributed.wait_complete()
    assert_each_once(distributed, attempts=1)
    note_fault("every message delivered twice, in random order", "the second finds its chunk done", None)


def test_two_people_enqueue_one_folder_at_once(
    distributed: Installation, xrays: Path, note_fault: NoteFault
) -> None:
    distributed.start("worker")

    both = at_once(distributed, "enqueue", xrays)

    assert [process.stdout.read().strip() for process in both if process.stdout] == ["1", "1"]
    distributed.wait_complete()
    assert_each_once(distributed, attempts=1)
    note_fault("one folder enqueued twice at the same time", "both get the same run", None)


@on_postgres
def test_two_people_resume_one_run_at_once(
    distributed: Installation, xrays: Path, valkey: Valkey, note_fault: NoteFault
) -> None:
    enqueue(distributed, xrays)
    valkey.client().flushall()
    distributed.start("worker")

    at_once(distributed, "resume", 1)

    distributed.wait_complete()
    assert_each_once(distributed, attempts=1)
    note_fault("one run resumed twice at the same time", "messages that are too many do nothing", None)
