"""What others push into the broker is refused and logged, unpickled never, and the worker none the worse."""

from __future__ import annotations

import json
import random

from db.leases import lease_chunk
from tests.support.forged_messages import forged
from tests.support.installation import Installation, command_of, draw_many
from tests.support.servers import Valkey, wait_until
from worker.queue.messages import EXPLAIN_QUEUE


def test_forged_messages_are_refused_and_leave_the_worker_as_it_was(
    distributed: Installation, valkey: Valkey
) -> None:
    trace = distributed.folder / "unpickled"
    xrays = draw_many(distributed.folder / "xrays", 40)
    distributed.without_tensorflow()
    distributed.set(chunk_size=8, log_level="INFO", lease_timeout=5)
    distributed.xraycam("enqueue", xrays)
    # So that one message is held back and sent again by the worker itself.
    distributed.ledger.write(lease_chunk, 1, 2, "somebody@elsewhere", 10)
    launcher = distributed.start("worker")
    distributed.wait_complete()
    before = workers(distributed)
    assert len(before) == 2

    messages = forged(trace)
    names = sorted(messages)
    random.Random(7).shuffle(names)
    client = valkey.client()
    for name in names:
        message = messages[name]
        raw = message if isinstance(message, bytes) else json.dumps(message).encode()
        client.lpush(EXPLAIN_QUEUE, raw)
    wait_until(lambda: not client.llen(EXPLAIN_QUEUE), 60, "all taken from the queue")

    draw_many(distributed.folder / "more", 24)
    run = int(distributed.xraycam("enqueue", distributed.folder / "more").stdout)
    distributed.wait_complete(run)

    assert workers(distributed) == before, distributed.logs()
    assert launcher.poll() is None
    assert not trace.exists()
    assert distributed.counts(1) == {"images": 40, "done": 40}
    assert distributed.counts(run) == {"images": 24, "done": 24}
    wait_until(lambda: not client.hlen("unacked"), 30, "nothing is held back for ever")
    assert not client.llen(EXPLAIN_QUEUE)
    log = (distributed.folder / "stderr.txt").read_text()
    # Of two the fields are right, and only the ledger knows that there is no such chunk.
    assert log.count("a message is refused") == len(messages) - 2
    for words in ("os.system", "x-python-serialize", "chunk: Field required", "output: Extra inputs"):
        assert words in log, words
    assert "again in" not in log  # what the launcher says as it replaces a worker
    assert "Traceback" not in log


def workers(installation: Installation) -> set[int]:
    """Main process and child of the one worker."""
    return {
        number
        for number in installation.processes()
        if "worker.supervisor.worker_process" in command_of(number)
    }
