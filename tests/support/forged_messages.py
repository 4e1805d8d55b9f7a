"""Messages as somebody could push them into the broker who has its password but means no good."""

from __future__ import annotations

import base64
import json
import os
import pickle
import uuid
from pathlib import Path
from typing import Any

from worker.queue.messages import EXPLAIN_CHUNK, EXPLAIN_QUEUE, TRAIN

HUGE = 10**400


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str, int, int]]:
        return os.open, (str(self.trace), os.O_CREAT | os.O_WRONLY, 0o600)


def envelope(
    task: Any = EXPLAIN_CHUNK,
    body: Any = None,
    *,
    content_type: Any = "application/json",
    encoded: bytes | None = None,
    **headers: Any,
) -> dict[str, Any]:
    """A message as Celery writes it, protocol 2."""
    content = json.dumps([[], {"run": 1, "chunk": 1}, {}] if body is None else body).encode()
    name = str(uuid.uuid4())
    return {
        "body": base64.b64encode(content if encoded is None else encoded).decode(),
        "content-encoding": "utf-8" if content_type == "application/json" else "binary",
        "content-type": content_type,
        "headers": {
            "lang": "py",
            "task": task,
            "id": name,
            "root_id": name,
            "argsrepr": "()",
            "kwargsrepr": "{}",
        }
        | headers,
        "properties": {
            "correlation_id": name,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": EXPLAIN_QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
    }


def of_arguments(**arguments: Any) -> dict[str, Any]:
    return envelope(body=[[], arguments, {}])


def without(name: str) -> dict[str, Any]:
    message = envelope()
    del message[name]
    return message


def without_property(name: str) -> dict[str, Any]:
    message = envelope()
    del message["properties"][name]
    return message


def forged(trace: Path) -> dict[str, bytes | dict[str, Any]]:
    """Messages by what is wrong with them: raw bytes, or an envelope to be written as JSON."""
    pickled = pickle.dumps(Bomb(trace))
    link = {"task": "os.system", "args": ["true"], "kwargs": {}, "options": {}}
    return {
        # the body
        "unknown task": envelope("os.system"),
        "task of Celery's": envelope("celery.map", [[link, [1]], {}, {}]),
        "task that never ends": envelope("celery.chord_unlock", [["a", link], {"interval": 0}, {}]),
        "task is no text": envelope({"a": 1}),
        "task is a list": envelope(["a"]),
        "missing field": of_arguments(run=1),
        "unknown field": of_arguments(run=1, chunk=1, output="/etc"),
        "no fields": of_arguments(),
        "too many arguments": envelope(body=[[1, 2, 3], {}, {}]),
        "text for a number": of_arguments(run="1", chunk="1; DROP TABLE runs"),
        "a list for a number": of_arguments(run=[1], chunk={"a": 1}),
        "nothing for a number": of_arguments(run=None, chunk=None),
        "truth for a number": of_arguments(run=True, chunk=True),
        "fractions": of_arguments(run=1.5, chunk=1e300),
        "giant numbers": of_arguments(run=10**30, chunk=HUGE),
        "negative numbers": of_arguments(run=-1, chunk=-1),
        "unknown run": of_arguments(run=10**15, chunk=1),
        "unknown chunk": of_arguments(run=1, chunk=10**9),
        "training in numbers too large": envelope(TRAIN, [[], {"training": 10**40}, {}]),
        "training by text": envelope(TRAIN, [[], {"training": "../../etc"}, {}]),
        "body is no list": envelope(body={"run": 1}),
        "body is a number": envelope(body=7),
        "body of one": envelope(body=[1]),
        "body is text": envelope(body="text"),
        "deep body": envelope(encoded=b"[" * 100_000 + b"]" * 100_000),
        "body is no JSON": envelope(encoded=b"\xff\x00{"),
        "empty body": envelope(encoded=b""),
        "body without base64": {**envelope(), "body": "%%%"},
        # the serializer
        "pickle": envelope(content_type="application/x-python-serialize", encoded=pickled),
        "pickle called JSON": envelope(encoded=pickled),
        "pickle called data": envelope(content_type="application/data", encoded=pickled),
        "YAML": envelope(content_type="application/x-yaml", encoded=b"!!python/object/apply:os.abort []"),
        "unknown type": envelope(content_type="text/html"),
        "type is a number": envelope(content_type=5),
        "zipped": envelope(compression="application/x-gzip"),
        # the headers
        "chained": envelope(body=[[], {"run": 1, "chunk": 10**9}, {"chain": [link], "callbacks": [link]}]),
        "date that is none": envelope(eta="tomorrow"),
        "date is a list": envelope(eta=[1]),
        "expires is nonsense": envelope(expires="never"),
        "limits are nonsense": envelope(timelimit=["a", {}]),
        "one limit": envelope(timelimit=[1]),
        "retries are nonsense": envelope(retries="many"),
        "no headers": {**envelope(), "headers": {}},
        "headers are a list": {**envelope(), "headers": [1]},
        "id is an object": envelope(id={"a": 1}),
        "id is missing": {**envelope(), "headers": {"task": EXPLAIN_CHUNK}},
        # the envelope
        "no body": without("body"),
        "no properties": without("properties"),
        "no content type": without("content-type"),
        "no tag": without_property("delivery_tag"),
        "no delivery": without_property("delivery_info"),
        "unknown encoding": {**envelope(), "properties": {**envelope()["properties"], "body_encoding": "x"}},
        "properties are text": {**envelope(), "properties": "text"},
        "tag is an object": {
            **envelope(),
            "properties": {**envelope()["properties"], "delivery_tag": {"a": 1}},
        },
        "a number": b"7",
        "a list": b"[1, 2]",
        "nothing": b"null",
        "no JSON": b"\xff\xfe{not json",
        "empty": b"",
        "deep": b"[" * 100_000,
    }
