"""What a DICOMweb server answers is taken for what it says, and for no more."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from producer.pacs.outgoing import Fate, Outgoing
from producer.pacs.stow_target import StowTarget
from worker.errors import XraycamError
from worker.settings import load_settings

OBJECTS = [Outgoing(f"1.2.{number}", "1.2.3", "1.2.4", b"x") for number in range(2)]


class Server(ThreadingHTTPServer):
    """Answers every request with the next of `answers`, the last of them for ever: status, headers, body."""

    answers: list[tuple[int, dict[str, str], bytes]]
    methods: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.server.methods.append(self.command)
        answers = self.server.answers
        status, headers, content = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), _Handler)
    made.methods = []
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def send(server: Server, *answers: tuple[int, Any], headers: dict[str, str] | None = None) -> list[Fate]:
    server.answers = [
        (status, headers or {}, said if isinstance(said, bytes) else json.dumps(said).encode())
        for status, said in answers
    ]
    settings = load_settings().model_copy(update={"pacs_timeout": 3.0})
    target = StowTarget(f"dicomweb+http://127.0.0.1:{server.server_address[1]}/x", settings)
    try:
        return target.send(OBJECTS)
    finally:
        target.close()


def said(stored: list[str], failed: dict[str, int]) -> dict[str, Any]:
    def item(uid: str, **more: Any) -> dict[str, Any]:
        return {"00081155": {"vr": "UI", "Value": [uid]}, **more}

    reasons = [item(uid, **{"00081197": {"vr": "US", "Value": [reason]}}) for uid, reason in failed.items()]
    return {
        "00081199": {"vr": "SQ", "Value": [item(uid) for uid in stored]},
        "00081198": {"vr": "SQ", "Value": reasons},
    }


def states(fates: list[Fate]) -> list[str]:
    return [fate.state for fate in fates]


def test_each_object_has_the_fate_that_is_named(server: Server) -> None:
    assert states(send(server, (200, said(["1.2.0", "1.2.1"], {})))) == ["sent", "sent"]
    some = send(server, (202, said(["1.2.0"], {"1.2.1": 0x0122})))
    assert states(some) == ["sent", "refused"]
    assert some[1].answer == "failure reason (0x0122)"
    full = send(server, (409, said([], {"1.2.0": 0xA700, "1.2.1": 0xC000})))
    assert states(full) == ["retry", "refused"]


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize("content", [b"", b"<html>Log in</html>", b"{}", b"[]", b'{"00081199": 5}', b"null"])
def test_what_is_not_said_to_be_stored_is_not_taken_for_it(
    server: Server, status: int, content: bytes
) -> None:
    assert states(send(server, (status, content))) == ["retry", "retry"]


def test_batch_that_is_refused_is_sent_one_by_one(server: Server) -> None:
    found = send(server, (413, b""), (200, said(["1.2.0"], {})), (413, b"large"))
    assert states(found) == ["sent", "refused"]
    assert found[1].answer == "HTTP 413"


def test_error_in_the_server_is_tried_again_and_then_is_the_objects(server: Server) -> None:
    assert states(send(server, (500, b""), (500, b""), (200, said(["1.2.0", "1.2.1"], {})))) == [
        "sent",
        "sent",
    ]
    assert states(send(server, (500, b""))) == ["refused", "refused"]


def test_redirection_of_a_post_is_not_followed(server: Server) -> None:
    with pytest.raises(XraycamError, match="elsewhere"):
        send(server, (302, b""), headers={"Location": "/login"})
    assert server.methods == ["POST"]


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_told_of(server: Server, status: int) -> None:
    with pytest.raises(XraycamError, match="XRAYCAM_DICOMWEB_TOKEN"):
        send(server, (status, b""))
