"""Queries for studies (QIDO-RS), checked before they are asked: servers pass over what they do not know."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from pydicom.datadict import keyword_dict

from worker.errors import XraycamError

_TAG = re.compile(r"[0-9a-fA-F]{8}")
# No matching keys (PS3.18, table 8.3.4-1); those of pages are ours.
_OPTIONS, _PAGES = ("fuzzymatching", "includefield"), ("limit", "offset")


def check_query(query: Sequence[tuple[str, str]]) -> None:
    """Raises XraycamError for a key that DICOM does not have, and for one without a value: either matches
    every study there is. Also for `limit` and `offset`: in an order that nobody knows they mean nothing."""
    for key, value in query:
        if key in _PAGES:
            raise XraycamError(
                f"{key} in the query would choose any studies, since a server may list them in any order; "
                "ask for fewer, such as by StudyDate"
            )
        if key in _OPTIONS:
            continue
        unknown = [part for part in key.split(".") if part not in keyword_dict and not _TAG.fullmatch(part)]
        if unknown:
            raise XraycamError(
                f"the query asks for {unknown[0][:64]!a}, which is no keyword of DICOM, so that the server "
                f"would give every study{_hint(unknown[0])}"
            )
        if not value.strip(" *"):
            raise XraycamError(
                f"the query has no value for {key}, so that it finds every study; give one, or leave it out"
            )


def _hint(key: str) -> str:
    same = [known for known in keyword_dict if known.lower() == key.lower()]
    near = same or difflib.get_close_matches(key, keyword_dict, n=1)
    return f"; did you mean {near[0]}?" if near else "; write keywords such as StudyDate, or tags of 8 digits"
