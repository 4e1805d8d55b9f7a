"""A node of a DICOM network that takes objects by C-STORE (PS3.4, annex B)."""

from __future__ import annotations

import io
import re
import ssl
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from producer.pacs.outgoing import Fate, Outgoing, TargetAway, fate_of_status, refused, to_retry
from worker.errors import XraycamError
from worker.settings import Settings

SCHEMES = ("dicom", "dicom+tls")
_LONGEST_WAIT = 15.0
AE_TITLE = re.compile(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?")


class StoreTarget:
    """`dicom://AET@HOST:PORT`, or `dicom+tls://`: the application entity that is called."""

    keeps = True

    def __init__(self, url: str, settings: Settings) -> None:
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port or 104
        except ValueError:
            self._host, parts = "", urlsplit("")
        self._called = parts.username or ""
        if not self._host or parts.password or parts.path.strip("/") or not AE_TITLE.fullmatch(self._called):
            raise XraycamError(f"{url[:100]!a} names no DICOM node; write dicom://AET@HOST:PORT")
        self._is_tls = parts.scheme == "dicom+tls"
        self.name = f"{parts.scheme}://{self._called}@{self._host}:{self._port}"
        self._settings = settings
        self._association: Any = None

    def close(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.release()
        self._association = None

    def send(self, objects: Sequence[Outgoing]) -> list[Fate]:
        """One after the other; an object whose reply is lost is sent again."""
        end = time.monotonic() + self._settings.pacs_timeout
        fates: list[Fate] = []
        pause = 0.5
        while len(fates) < len(objects):
            fate = self._store(objects[len(fates)])
            if fate is not None:
                fates.append(fate)
                end, pause = time.monotonic() + self._settings.pacs_timeout, 0.5
                continue
            self.close()
            if time.monotonic() + pause > end:
                if fates:  # what was taken is recorded; the next batch asks again
                    return fates + [to_retry("the node does not answer")] * (len(objects) - len(fates))
                trusted = ", or shows a certificate that is not trusted (XRAYCAM_DICOM_TLS_CA)" * self._is_tls
                raise TargetAway(
                    f"{self.name} does not answer, or refuses {self._settings.dicom_aet}{trusted}; start it "
                    "or have it accept us, then give the same command again, which does the rest"
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT)
        return fates

    def _store(self, item: Outgoing) -> Fate | None:
        """None where no reply came."""
        from pydicom import dcmread

        association = self._associated()
        if association is None:
            return None
        if not any(context.abstract_syntax == item.sop_class for context in association.accepted_contexts):
            return refused("the node does not accept objects of this kind")
        try:
            status = association.send_c_store(dcmread(io.BytesIO(item.content)))
        except (RuntimeError, ValueError) as error:
            return None if isinstance(error, RuntimeError) else refused(f"not sent: {type(error).__name__}")
        if not status or "Status" not in status:
            return None
        return fate_of_status(int(status.Status), _printable(status.get("ErrorComment", "")))

    def _associated(self) -> Any:
        from pynetdicom import AE

        if self._association is not None and self._association.is_established:
            return self._association
        entity = AE(ae_title=self._settings.dicom_aet)
        entity.connection_timeout = entity.acse_timeout = 10
        entity.dimse_timeout = entity.network_timeout = 60
        for sop_class in (
            "1.2.840.10008.5.1.4.1.1.7",
            "1.2.840.10008.5.1.4.1.1.88.34",
            "1.2.840.10008.5.1.4.1.1.30",
        ):
            # A context each, since of several syntaxes in one the node picks.
            entity.add_requested_context(sop_class, "1.2.840.10008.1.2.1")
            if sop_class.endswith(".7"):
                entity.add_requested_context(sop_class, "1.2.840.10008.1.2.5")
        tls = (client_context(self._settings), self._host) if self._is_tls else None
        association = entity.associate(self._host, self._port, ae_title=self._called, tls_args=tls)
        self._association = association if association.is_established else None
        return self._association


def client_context(settings: Settings) -> ssl.SSLContext:
    """TLS of whom we call: its certificate is checked; ours is shown where one is set."""
    context = ssl.create_default_context(cafile=_path(settings.dicom_tls_ca))
    if settings.dicom_tls_certificate is not None:
        context.load_cert_chain(settings.dicom_tls_certificate, _path(settings.dicom_tls_key))
    return context


def server_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS of those who call us, where a certificate is set; with a CA, theirs are asked for and checked."""
    if settings.dicom_tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=_path(settings.dicom_tls_ca))
    context.load_cert_chain(settings.dicom_tls_certificate, _path(settings.dicom_tls_key))
    if settings.dicom_tls_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _path(file: Any) -> str | None:
    return None if file is None else str(file)


def _printable(text: Any) -> str:
    return "".join(letter for letter in str(text) if letter.isprintable())[:64]
