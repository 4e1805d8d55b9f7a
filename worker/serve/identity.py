"""What is kept of a patient: keyed hashes of identifiers, and facts of the header that name nobody."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from worker.errors import XraycamError
from worker.file_names import printable
from worker.images.dicom import DicomFacts
from worker.settings import Settings

_KEY = re.compile(rb"[0-9a-f]{64}\s*")


def load_identity_key(settings: Settings) -> bytes:
    """The key of the hashes, 32 bytes, from its file, which whoever comes first makes, with mode 0600.

    Raises XraycamError where the file cannot be read or made, or holds anything else.
    """
    file = settings.identity_key
    try:
        if not file.exists():
            _make(file)
        content = file.read_bytes()
    except OSError as error:
        raise XraycamError(
            f"{printable(file)}: the key of patients' hashes cannot be read: {error.strerror}; make it "
            "readable for the workers' user, or set XRAYCAM_IDENTITY_KEY_FILE"
        ) from error
    if not _KEY.fullmatch(content):
        raise XraycamError(
            f"{printable(file)} holds no key (64 hexadecimal digits); restore it, or remove it for a new "
            "one, with which the same patients get other hashes"
        )
    return bytes.fromhex(content.decode())


def _make(file: Path) -> None:
    """Write a new key whole or not at all; one that is there already stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}-{secrets.token_hex(8)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(32) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):
            os.link(unfinished, file)
    finally:
        Path(unfinished).unlink()


def fingerprint(key: bytes) -> str:
    """8 hexadecimal digits that tell keys apart and give none away."""
    return hmac.new(key, b"fingerprint", hashlib.sha256).hexdigest()[:8]


def _issued(patient_id: str | None, issuer: str | None) -> str | None:
    return patient_id if None in (patient_id, issuer) else json.dumps([issuer, patient_id])


def identity_columns(facts: DicomFacts, key: bytes, *, keep_age_sex: bool = False) -> dict[str, Any]:
    """The columns `patient`, `study`, `series`, `instance` and `header` of a result.

    Each of the first four is HMAC-SHA256 of the identifier and of what it is, in 32 hexadecimal digits, or
    None where the file has none; of a patient that is the ID together with who issued it, where that is said,
    since two hospitals give one ID to two people. Age and sex are in `header` with `keep_age_sex` alone.
    """
    identifiers = {
        "patient": _issued(facts.patient_id, facts.patient_issuer),
        "study": facts.study_uid,
        "series": facts.series_uid,
        "instance": facts.instance_uid,
    }
    hashes = {
        kind: None
        if value is None
        else hmac.new(key, f"{kind}:{value}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]
        for kind, value in identifiers.items()
    }
    header: dict[str, Any] = {
        "view": facts.view,
        "manufacturer": facts.manufacturer,
        "model": facts.model,
        "bits_stored": facts.bits_stored,
        "photometric": facts.photometric,
        "transfer_syntax": facts.transfer_syntax,
        "rendering": facts.rendering,
        "burned_in_annotation": facts.burned_in_annotation,
        "notes": "; ".join(facts.notes) or None,
        "hash_key": fingerprint(key),
    }
    if keep_age_sex:
        header["age"] = facts.age if re.fullmatch(r"\d{3}[DWMY]", facts.age or "") else None
        header["sex"] = facts.sex if facts.sex in ("M", "F", "O") else None
    return {**hashes, "header": header}
