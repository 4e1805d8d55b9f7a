"""What our own DICOM objects say of who made them, and UIDs that follow from what they are made of."""

from __future__ import annotations

import json
import uuid
from functools import cache
from importlib.metadata import version
from typing import Any

from worker.images.dicom_checks import OUR_MANUFACTURER

MANUFACTURER = OUR_MANUFACTURER
NOT_FOR_DIAGNOSIS = "not for diagnosis"
_LONG_STRING = 64

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:xraycam:dicom-results")


def uid_of(*parts: Any) -> str:
    """The UID of what `parts` (plain JSON values) describe: the same parts give the same UID.

    A name-based UUID below the root 2.25 (PS3.5, B.2; RFC 9562, version 5).
    """
    name = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


@cache
def software_version() -> str:
    """The version of xraycam that is installed."""
    return version("xraycam")


def series_description(what: str, model_version: str) -> str:
    """At most 64 letters, the last of which say that it is not for diagnosis."""
    ending = f", {NOT_FOR_DIAGNOSIS}"
    return f"{MANUFACTURER} {what} {model_version}"[: _LONG_STRING - len(ending)].rstrip() + ending


def is_own(manufacturer: str, series: str) -> bool:
    """Whether an object is one of ours, by Manufacturer and SeriesDescription: no source of new results."""
    return manufacturer.strip() == MANUFACTURER or series.strip().endswith(f", {NOT_FOR_DIAGNOSIS}")
