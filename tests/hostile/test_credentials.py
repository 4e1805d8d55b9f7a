"""Passwords of broker and database stand in no log, no answer of `doctor`, no page of Flower, no error."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from db.migrate import migrate
from tests.support.installation import Installation, InstallModel, draw_many
from tests.support.servers import Postgres, Valkey, free_port, wait_until
from worker.queue.messages import EXPLAIN_QUEUE

SECRET = "s3cret/pass wörd"  # noqa: S105 - of a server that lives as long as the test
QUOTED = "s3cret%2Fpass%20w%C3%B6rd"
FORMS = (SECRET, QUOTED, json.dumps(SECRET)[1:-1], "s3cret")


@pytest.fixture
def guarded() -> Iterator[Valkey]:
    server = Valkey()
    try:
        server.start()
        server.client().config_set("requirepass", SECRET)
        yield server
    finally:
        server.remove()


def assert_no_secret(text: str, *more: str) -> None:
    for form in (*FORMS, *more):
        assert form not in text, text[max(0, text.find(form) - 300) :][:400]


def test_passwords_appear_nowhere(
    tmp_path_factory: pytest.TempPathFactory,
    guarded: Valkey,
    postgres: Postgres,
    model_store: InstallModel,
) -> None:
    made = Installation(tmp_path_factory.mktemp("guarded"))
    broker = f"redis://:{QUOTED}@127.0.0.1:{guarded.port}/0"
    made.set(broker_url=broker, database_url=postgres.new_database(), log_level="DEBUG", log_format="json")
    made.set(chunk_size=5)
    made.without_tensorflow()
    migrate(made.ledger)
    model_store(made.ledger, made.home)
    port, pages = free_port(), []
    flower = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "worker", "flower", f"--port={port}", "--address=127.0.0.1"],
        env={**made.environment, "FLOWER_UNAUTHENTICATED_API": "true"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=made.folder,
    )  # fmt: skip
    try:
        metrics = free_port()
        worker = made.start("worker", "--metrics-port", metrics)
        xrays = draw_many(made.folder / "xrays", 20)
        (xrays / "broken.png").write_bytes(b"\x89PNG")
        made.xraycam("enqueue", xrays)
        made.wait_complete()
        wait_until(lambda: "explain" in page(port, "/api/workers?refresh=1"), 40, "Flower knows the worker")
        (name,) = json.loads(page(port, "/api/workers"))
        for path in ("/api/workers", "/workers", f"/worker/{name}", "/broker", "/tasks", "/metrics"):
            pages.append(page(port, path))
            assert pages[-1], path
        pages.append(page(metrics, "/metrics"))
        assert 'xraycam_workers{queue="explain",state="live"} 1.0' in pages[-1]
        assert 'xraycam_queue_messages{queue="explain"} 0.0' in pages[-1]
        doctor = made.xraycam("doctor")
        assert "ok    broker" in doctor.stdout
        # Refused by the broker, while the worker has it still.
        made.set(broker_url=broker.replace(QUOTED, QUOTED + "x"))
        refused = made.xraycam("doctor", status=2)
        assert "refuses user or password" in refused.stdout
        guarded.kill()
        wait_until(lambda: "onnection" in made.logs(), 30, "the worker notices")
        worker.send_signal(signal.SIGTERM)
        worker.wait(40)
    finally:
        flower.kill()  # without its broker it heeds nothing gentler
        said, _ = flower.communicate(timeout=20)
        made.stop_all()
    log = (made.folder / "stderr.txt").read_text()
    assert EXPLAIN_QUEUE in log
    for text in (*pages, doctor.stdout, doctor.stderr, refused.stdout, refused.stderr, log, said):
        assert_no_secret(text, postgres.password)
    of_chunks = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {1, 2, 3, 4, 5} <= {entry.get("chunk") for entry in of_chunks}
    assert {entry["run"] for entry in of_chunks if "chunk" in entry} == {1}
    (failed,) = [entry for entry in of_chunks if "image" in entry]
    assert (failed["image"], failed["reason"]) == ("broken.png", "truncated")
    assert all(entry["worker"] and entry["level"] and entry["message"] for entry in of_chunks)


def page(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            return str(response.read().decode())
    except OSError:
        return ""
