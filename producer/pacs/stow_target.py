"""A DICOMweb server that takes objects by STOW-RS (PS3.18, section 10.5)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import requests

from producer.pacs.dicomweb import DicomWeb, body
from producer.pacs.outgoing import TAKEN, Fate, Outgoing, fate_of_status, refused, to_retry
from worker.settings import Settings

_STORED, _FAILED, _REASON, _UID = "00081199", "00081198", "00081197", "00081155"


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
        named = _named(answer)
        if status in (200, 202) or (status == 409 and named):
            # A page of a proxy that asks for a password is HTTP 200 as well.
            unsaid = to_retry(f"HTTP {status}, and the answer does not say that it was stored")
            return [named.get(item.uid, unsaid) for item in objects]
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


def _named(answer: Any) -> dict[str, Fate]:
    """What the server says of objects, stored and failed ones, by UID (PS3.18, table I.1-1)."""
    data = answer[0] if isinstance(answer, list) and answer else answer
    if not isinstance(data, dict):
        return {}
    found = {uid: TAKEN for uid, _ in _items(data, _STORED)}
    for uid, item in _items(data, _FAILED):
        reason = 0x0110
        with suppress(AttributeError, IndexError, TypeError, ValueError):
            reason = int(item.get(_REASON, {}).get("Value", [reason])[0]) or reason
        found[uid] = fate_of_status(reason, "failure reason")
    return found


def _items(data: dict[str, Any], tag: str) -> Iterator[tuple[str, dict[str, Any]]]:
    with suppress(AttributeError, IndexError, KeyError, TypeError):
        for item in data[tag]["Value"]:
            yield str(item[_UID]["Value"][0]), item


def _words(answer: Any) -> str:
    """What a server such as Orthanc says went wrong, which may not quote the patient."""
    words = answer.get("Message") if isinstance(answer, dict) else None
    return f": {words}"[:200] if isinstance(words, str) and words.isprintable() else ""
