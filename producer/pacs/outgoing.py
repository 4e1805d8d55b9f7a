"""What is sent to a target, what becomes of it, and what a target is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from db.exports import REFUSED, RETRY, SENT
from worker.errors import XraycamError


@dataclass(frozen=True)
class Outgoing:
    """A DICOM file to be sent; its content holds the patient's identity and is shown nowhere."""

    uid: str
    sop_class: str
    transfer_syntax: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Fate:
    """`state` as in the ledger's `exports`; `answer`: why the target did not take it."""

    state: str
    answer: str | None = None


TAKEN = Fate(SENT)


def refused(answer: str) -> Fate:
    return Fate(REFUSED, answer[:500])


def to_retry(answer: str) -> Fate:
    return Fate(RETRY, answer[:500])


class TargetAway(XraycamError):
    """Raised when a target does not answer any more, and what was not sent must wait."""


class Target(Protocol):
    """A place that takes DICOM objects. `name`: as it is shown and stored, without credentials. `keeps`:
    whether what it has confirmed need not be sent again, as it need to a folder, which people empty."""

    name: str
    keeps: bool

    def send(self, objects: Sequence[Outgoing]) -> list[Fate]:
        """The fate of each of the objects, in their order. Raises TargetAway when none can be sent at
        present, XraycamError when none ever will."""
        ...

    def close(self) -> None: ...


def fate_of_status(status: int, words: str = "") -> Fate:
    """What a status of C-STORE (PS3.4, table B.2-1; PS3.7, annex C) or a failure reason of STOW-RS says."""
    text = f"{words} (0x{status:04X})".strip()
    if status == 0 or 0xB000 <= status <= 0xBFFF:  # warnings: stored, perhaps with changes
        return TAKEN
    return to_retry(f"out of resources {text}") if 0xA700 <= status <= 0xA7FF else refused(text)
