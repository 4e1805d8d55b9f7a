"""A DICOMweb server that takes objects by STOW-RS (PS3.18, section 10.5)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import requests

from producer.pacs.dicomweb import DicomWeb, body
from producer.pacs.outgoing import TAKEN, Fate, Outgoing, fate_of_status, refused
from worker.settings import Settings

_FAILED, _REASON, _UID = "00081198", "00081197", "00081155"


class StowTarget:
    """Sends objects to `/studies` of the server."""

    keeps = True

    def __init__(self, url: str, settings: Settings) -> None:
        self._server = DicomWeb(url, settings)
        self.name = self._server.name

    def close(self) -> None:
        self._server.close()

    def send(self, objects: Sequence[Outgoing]) -> list[Fate]:
        """A batch that is too large for the server, or refused as a whole, is sent in halves."""
        if not objects:
            return []
        boundary = f"xraycam-{secrets.token_hex(16)}"
        status, answer = self._server.request(
            "POST",
            "studies",
            _answer,
            data=_multipart(objects, boundary),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": "application/dicom+json",
            },
        )
        failed = _failures(answer)
        if status in (200, 202) or (status == 409 and failed):
            return [failed.get(item.uid, TAKEN if status != 409 else refused("HTTP 409")) for item in objects]
        if len(objects) > 1:
            middle = len(objects) // 2
            return self.send(objects[:middle]) + self.send(objects[middle:])
        return [refused(f"HTTP {status}{_words(answer)}")]


def _multipart(objects: Sequence[Outgoing], boundary: str) -> bytes:
    parts = []
    for item in objects:
        parts += [f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(), item.content, b"\r\n"]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()])


def _answer(answer: requests.Response) -> Any:
    content = body(answer)
    with suppress(ValueError):
        return json.loads(content)
    return None


def _failures(answer: Any) -> dict[str, Fate]:
    """What the server says of the objects that it did not store, by UID."""
    found = {}
    data = answer[0] if isinstance(answer, list) and answer else answer
    items = data.get(_FAILED, {}).get("Value", []) if isinstance(data, dict) else []
    for item in items:
        with suppress(AttributeError, IndexError, KeyError, TypeError, ValueError):
            reason = int(item.get(_REASON, {}).get("Value", [0x0110])[0])
            found[str(item[_UID]["Value"][0])] = fate_of_status(reason or 0x0110, "failure reason")
    return found


def _words(answer: Any) -> str:
    """What a server such as Orthanc says went wrong, which may not quote the patient."""
    words = answer.get("Message") if isinstance(answer, dict) else None
    return f": {words}"[:200] if isinstance(words, str) and words.isprintable() else ""
