"""Messages: small, readable, never more than the broker should hold, none lost."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from db.ingest import RunIngest, ScannedFile
from db.ledger import Ledger
from db.migrate import migrate
from db.runs import Run, open_run
from db.schema import chunks
from producer import publish
from producer.publish import publish_chunks
from tests.support.servers import Valkey, free_port
from worker.queue.broker import BrokerUnreachable
from worker.queue.messages import EXPLAIN_QUEUE
from worker.settings import Settings, load_settings

COUNT = 1200


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    migrate(ledger)
    return ledger


@pytest.fixture
def run(ledger: Ledger) -> Run:
    """Many chunks of one image."""
    run, is_new = ledger.write(
        open_run,
        root="/archive/wards",
        output="/overlays",
        options={},
        model_version="first",
        pinned=False,
        chunk_size=1,
    )
    intake = RunIngest(ledger, run, is_new=is_new)
    intake.add([ScannedFile(f"x{number}.png", 1, 1) for number in range(COUNT)])
    intake.close()
    return run


@pytest.fixture
def settings(home: Path, monkeypatch: pytest.MonkeyPatch, valkey: Valkey) -> Iterator[Settings]:
    assert home.parent.is_dir()
    monkeypatch.setenv("XRAYCAM_BROKER_URL", valkey.url)
    yield load_settings()
    valkey.restart()  # without the limits of a test


def limited(settings: Settings, limit: int) -> Settings:
    return settings.model_copy(update={"max_queued_messages": limit})


def messages(valkey: Valkey) -> list[dict[str, Any]]:
    """What waits in the queue, first come first."""
    return [json.loads(text) for text in valkey.client().lrange(EXPLAIN_QUEUE, 0, -1)][::-1]


def body(message: dict[str, Any]) -> Any:
    return json.loads(base64.b64decode(message["body"]))


def chunk(message: dict[str, Any]) -> int:
    return int(body(message)[1]["chunk"])


class Drain(threading.Thread):
    """Takes messages from the queue as workers do; `seen` are the chunks they named."""

    def __init__(self, valkey: Valkey, at_once: int) -> None:
        super().__init__(daemon=True)
        self.seen: list[int] = []
        self.longest = 0
        self._client = valkey.client()
        self._at_once = at_once
        self._end = threading.Event()

    def run(self) -> None:
        while True:
            self.longest = max(self.longest, self._client.llen(EXPLAIN_QUEUE))
            ingested = self._client.rpop(EXPLAIN_QUEUE, self._at_once) or []
            self.seen += [chunk(json.loads(text)) for text in ingested]
            if self._end.is_set() and not ingested:
                return
            time.sleep(0.01)

    def finish(self) -> list[int]:
        self._end.set()
        self.join(60)
        return sorted(self.seen)


def test_message_names_run_and_chunk_and_nothing_else(
    settings: Settings, ledger: Ledger, run: Run, valkey: Valkey
) -> None:
    assert publish_chunks(settings, ledger, run, COUNT) == COUNT
    first = messages(valkey)[0]
    assert (first["content-type"], first["content-encoding"]) == ("application/json", "utf-8")
    arguments, keywords, _ = body(first)
    assert (arguments, keywords) == ([], {"run": run.id, "chunk": 1})
    assert first["headers"]["task"] == "xraycam.explain_chunk"


def test_message_can_be_read_by_people(settings: Settings, ledger: Ledger, run: Run, valkey: Valkey) -> None:
    publish_chunks(settings, ledger, run, COUNT)
    headers = messages(valkey)[2]["headers"]
    assert headers["argsrepr"] == "'/archive/wards'"
    assert headers["kwargsrepr"] == f"chunk 3/{COUNT}, run {run.id}"


def test_every_chunk_has_a_message_in_order_and_is_noted_as_sent(
    settings: Settings, ledger: Ledger, run: Run, valkey: Valkey
) -> None:
    publish_chunks(settings, ledger, run, COUNT)
    assert [chunk(message) for message in messages(valkey)] == list(range(1, COUNT + 1))
    with ledger.read() as connection:
        sent = select(func.count()).where(chunks.c.published_at.is_not(None))
        assert connection.execute(sent).scalar() == COUNT


def test_full_queue_is_waited_for_until_workers_have_drained_it(
    settings: Settings, ledger: Ledger, run: Run, valkey: Valkey
) -> None:
    waits = 0
    drain = Drain(valkey, at_once=40)

    def on_wait() -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            assert len(messages(valkey)) == 100
            drain.start()

    assert publish_chunks(limited(settings, 100), ledger, run, COUNT, on_wait) == COUNT
    assert waits >= 3
    assert drain.finish() == list(range(1, COUNT + 1))
    assert drain.longest <= 100


def test_broker_killed_and_restarted_meanwhile_has_every_message(
    settings: Settings, ledger: Ledger, run: Run, valkey: Valkey
) -> None:
    waits = 0

    def on_wait() -> None:
        nonlocal waits
        waits += 1
        if waits == 1:
            valkey.kill()
        if waits == 4:
            valkey.start()
            valkey.client().ltrim(EXPLAIN_QUEUE, 1, 0)

    assert publish_chunks(limited(settings, 700), ledger, run, COUNT, on_wait) == COUNT
    assert waits >= 4
    # What was there before was taken; all the rest is there once.
    assert {chunk(message) for message in messages(valkey)} >= set(range(701, COUNT + 1))


def test_broker_without_memory_is_waited_for_and_nothing_is_lost(
    settings: Settings, ledger: Ledger, run: Run, valkey: Valkey
) -> None:
    valkey.restart(maxmemory="2mb", maxmemory_policy="noeviction")
    drain = Drain(valkey, at_once=10)
    waits = 0

    def on_wait() -> None:
        nonlocal waits
        waits += 1
        if not drain.is_alive():
            drain.start()

    assert publish_chunks(settings, ledger, run, COUNT, on_wait) == COUNT
    assert waits
    assert set(drain.finish()) == set(range(1, COUNT + 1))


def test_broker_that_stays_away_is_named_without_its_password(
    settings: Settings, ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "RETRY_TIMEOUT", 0.3)
    monkeypatch.setenv("XRAYCAM_BROKER_URL", f"redis://:hidden@127.0.0.1:{free_port()}/0")
    load_settings.cache_clear()
    with pytest.raises(
        BrokerUnreachable, match=r"redis://:\*\*\*@127.0.0.1.*check XRAYCAM_BROKER_URL"
    ) as refusal:
        publish_chunks(load_settings(), ledger, run, COUNT)
    assert "hidden" not in str(refusal.value)
    assert settings.broker is not None
