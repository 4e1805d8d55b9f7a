"""Which messages a worker takes: those that xraycam sends, first and again, and no others."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.forged_messages import envelope, forged
from worker.queue.celery_app import configuration
from worker.queue.message_schema import InvalidMessage, check_envelope, check_message
from worker.queue.messages import EXPLAIN_CHUNK, EXPLAIN_QUEUE, TRAIN, TRAIN_QUEUE

RIGHT_BUT_UNKNOWN = {"unknown run", "unknown chunk"}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> tuple[Celery, list[Any]]:
    """A Celery app set up as ours, and the messages it puts into its queues, as they stand in Redis."""
    app = Celery("test", broker="memory://")
    app.conf.update(configuration())
    found: list[Any] = []
    from kombu.transport.memory import Channel

    monkeypatch.setattr(
        Channel, "_put", lambda _, __, message, **___: found.append(json.loads(json.dumps(message)))
    )
    return app, found


def test_what_is_sent_is_taken(sent: tuple[Celery, list[Any]]) -> None:
    app, found = sent
    with app.connection_for_write() as connection:
        producer = app.amqp.Producer(connection)
        for queue in (EXPLAIN_QUEUE, TRAIN_QUEUE):
            producer.channel.queue_declare(queue)
        described = {"producer": producer, "argsrepr": "'/x-rays'", "kwargsrepr": "chunk 2/9, run 1"}
        app.send_task(TRAIN, kwargs={"training": 3}, queue=TRAIN_QUEUE, **described)
        app.send_task(EXPLAIN_CHUNK, kwargs={"run": 1, "chunk": 2}, **described)
        # As a worker sends again what it holds back.
        app.send_task(EXPLAIN_CHUNK, kwargs={"run": 1, "chunk": 2}, countdown=3600, retries=5, **described)
    assert len(found) == 3
    for message in found:
        check_envelope(message)
        check_message(message)


def test_envelope_of_the_tests_is_taken_until_it_is_forged(tmp_path: Path) -> None:
    check_message(envelope())
    for name, message in forged(tmp_path / "trace").items():
        if name in RIGHT_BUT_UNKNOWN:
            check_message(message)
            continue
        try:
            decoded = json.loads(message) if isinstance(message, bytes) else message
        except (ValueError, RecursionError):
            continue  # refused by the transport, which decodes it
        assert not is_taken(decoded), name


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
PATHS = st.sampled_from(
    [
        ("body",),
        ("content-type",),
        ("headers",),
        ("properties",),
        *(
            ("headers", name)
            for name in ("task", "id", "eta", "retries", "timelimit", "argsrepr", "compression")
        ),
        *(("properties", name) for name in ("delivery_tag", "body_encoding", "delivery_info", "priority")),
    ]
)


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=PATHS, value=JSON)
def test_any_value_anywhere_is_taken_or_refused_in_one_line(path: tuple[str, ...], value: Any) -> None:
    message = envelope()
    part = message
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    is_taken(message)


@settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=JSON
    | st.tuples(st.just([]), JSON, st.just({}))
    | st.tuples(JSON, st.just({"run": 1, "chunk": 1}), JSON)
)
def test_any_body_names_a_chunk_or_is_refused_in_one_line(body: Any) -> None:
    message = envelope(body=body)
    if is_taken(message):
        arguments, fields, canvas = json.loads(base64.b64decode(message["body"]))
        assert arguments == []
        assert set(fields) == {"run", "chunk"}
        assert all(type(number) is int for number in fields.values())
        assert not any(canvas.values())


@given(value=JSON)
@settings(max_examples=100, derandomize=True, deadline=None)
def test_any_json_is_a_message_or_refused(value: Any) -> None:
    is_taken(value)


def is_taken(message: Any) -> bool:
    """Whether a message is taken; if not, the reason is one line."""
    refusal = None
    try:
        check_envelope(message)
        check_message(message)
    except InvalidMessage as error:
        refusal = str(error)
    if refusal is not None:
        assert refusal.isprintable()
        assert len(refusal) <= 300
    return refusal is None
