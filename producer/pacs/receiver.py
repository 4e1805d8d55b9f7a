"""Images that others send by C-STORE: on the disk before they are acknowledged, a folder for each study."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producer.pacs.file_identity import identify
from producer.pacs.spool import SUFFIX, Spool, SpoolFull
from producer.pacs.store_target import server_context
from worker.errors import XraycamError
from worker.settings import Settings

log = logging.getLogger(__name__)

_DONE = ".done"
# Computed and digital radiography, secondary captures (scanned film).
_RADIOGRAPHS = [
    f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("1", "1.1", "1.1.1", "7", "7.1", "7.2", "7.3", "7.4")
]
_VERIFICATION = "1.2.840.10008.1.1"
_SYNTAXES = [
    "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5",
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91, 201, 202, 203)),
]  # fmt: skip
# Of C-STORE (PS3.4, table B.2-1) and of DIMSE (PS3.7, annex C).
_SUCCESS, _OUT_OF_RESOURCES, _CANNOT_UNDERSTAND, _NOT_AUTHORIZED = 0x0000, 0xA700, 0xC000, 0x0124


class Receiver:
    """A node of a DICOM network that takes radiographs from `callers` (titles; none: from everybody)."""

    def __init__(
        self, settings: Settings, port: int, title: str, callers: Collection[str], address: str
    ) -> None:
        self._settings = settings
        self._where = (address, port)
        self._title = title
        self._callers = list(callers)
        self.spool = Spool(settings.home / "spool" / "received", settings.spool_bytes)
        self.counts: Counter[str] = Counter()
        self._received: dict[int, int] = {}  # bytes of the message in progress, by association
        self._lock = threading.Lock()
        self._server: Any = None

    def start(self) -> None:
        """Listen. Raises XraycamError where the port cannot be had."""
        from pynetdicom import AE, evt

        entity = AE(ae_title=self._title)
        entity.require_called_aet = True
        entity.require_calling_aet = self._callers
        entity.maximum_associations = 32
        entity.network_timeout, entity.acse_timeout, entity.dimse_timeout = 60, 30, 60
        entity.add_supported_context(_VERIFICATION)
        for sop_class in _RADIOGRAPHS:
            entity.add_supported_context(sop_class, _SYNTAXES)
        handlers = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_PDU_RECV, self._count),
            (evt.EVT_CONN_CLOSE, self._forget),
        ]
        try:
            self._server = entity.start_server(
                self._where, block=False, evt_handlers=handlers, ssl_context=server_context(self._settings)
            )
        except OSError as error:
            raise XraycamError(
                f"port {self._where[1]} of {self._where[0]} cannot be listened to: {error.strerror}; choose "
                "another --port"
            ) from error

    def stop(self) -> None:
        """Listen no more; done twice, it does no harm."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()

    def studies(self) -> list[Path]:
        """The folders of all studies, by name; none where somebody deleted all."""
        try:
            return sorted(folder for folder in self.spool.root.iterdir() if folder.is_dir())
        except FileNotFoundError:
            return []

    def _store(self, event: Any) -> int:
        try:
            content = event.encoded_dataset(include_meta=True)
        except Exception:
            return _CANNOT_UNDERSTAND
        finally:
            self._reset(event.assoc)
        identity = identify(content)
        if identity.is_own:
            self.counts["own"] += 1
            return _NOT_AUTHORIZED
        instance = identity.instance
        if not identity.study or instance != str(event.request.AffectedSOPInstanceUID):
            self.counts["without UIDs"] += 1
            return _CANNOT_UNDERSTAND
        try:
            new = self.spool.write(self.spool.file_of(self.spool.name_of(identity.study), instance), content)
        except SpoolFull as error:
            log.error("%s", error)
            return _OUT_OF_RESOURCES
        except OSError as error:
            log.error("%s cannot be written to: %s", self.spool.root, error.strerror)
            return _OUT_OF_RESOURCES
        self.counts["stored" if new else "repeated"] += 1
        return _SUCCESS

    def _count(self, event: Any) -> None:
        """End an association whose message is larger than a file may be, before it fills the memory."""
        if event.pdu.pdu_type != 0x04:  # data
            return
        key = id(event.assoc)
        with self._lock:
            self._received[key] = self._received.get(key, 0) + len(event.pdu)
            too_large = self._received[key] > self._settings.max_bytes + 100_000
        if too_large:
            self.counts["too large"] += 1
            event.assoc.abort()

    def _reset(self, association: Any) -> None:
        with self._lock:
            self._received[id(association)] = 0

    def _forget(self, event: Any) -> None:
        with self._lock:
            self._received.pop(id(event.assoc), None)


@dataclass(frozen=True)
class StudyState:
    """What has come of a study: another state means that there is something new. `newest`: when its last file
    was written, nanoseconds since 1970."""

    files: int
    newest: int

    def is_quiet(self, seconds: float) -> bool:
        """Whether it has files, of which none came within so many seconds."""
        return self.files > 0 and time.time_ns() - self.newest >= seconds * 1e9


def state_of(folder: Path) -> StudyState:
    """Raises FileNotFoundError for a study that is being deleted."""
    times = [file.stat().st_mtime_ns for file in folder.glob(f"*{SUFFIX}")]
    return StudyState(len(times), max(times, default=0))


def mark_done(folder: Path, state: StudyState) -> None:
    """Remember that all that a study had is explained, and sent where it was to be. Raises FileNotFoundError
    where it was deleted."""
    (folder / _DONE).write_text(f"{state.files} {state.newest}")


def is_done(folder: Path, state: StudyState) -> bool:
    try:
        return (folder / _DONE).read_text() == f"{state.files} {state.newest}"
    except OSError:
        return False
