"""Radiographs of a DICOMweb server, searched for by QIDO-RS and fetched by WADO-RS into a folder."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from producer.pacs.dicomweb import DicomWeb, body
from producer.pacs.file_identity import identify
from producer.pacs.query import check_query
from producer.pacs.spool import SUFFIX, Spool
from worker.counted_words import counted
from worker.dicom_results.equipment import is_own
from worker.errors import XraycamError
from worker.images.dicom import is_dicom
from worker.settings import Settings

_PAGE = 100
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"
_MODALITY, _DESCRIPTION, _MANUFACTURER = "00080060", "0008103E", "00080070"
# Of series that hold no radiograph nothing is fetched; a modality that is not said is.
_RADIOGRAPHY = {"CR", "DX", "DR", "RG", "XR", "OT", "SC", "HC", ""}
_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_OVERHEAD = 1_000_000
_UID = re.compile(r"[0-9.]{1,64}")
# In the folder of a search while it is fetched.
_UNFINISHED = ".unfinished"


@dataclass
class FetchCounts:
    """Instances of a search: `fetched`, or `kept` since they are as before; `found` by a search alone; `own`
    ones left out, `removed` since the server has them no more, `failed` by cause; `warnings` of
    the server."""

    studies: int = 0
    found: int = 0
    fetched: int = 0
    kept: int = 0
    removed: int = 0
    own: int = 0
    other_modality: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    warnings: Collection[str] = ()

    def line(self) -> str:
        """What a person is told."""
        words = [f"{self.studies} studies", f"{counted(self.fetched, 'image')} fetched"]
        words += [f"{self.kept} there from before"] if self.kept else []
        words += [f"{self.removed} gone from the PACS"] if self.removed else []
        words += [f"{self.own} results of ours left out"] if self.own else []
        words += [f"{self.other_modality} series of other modalities"] if self.other_modality else []
        words += [f"{count} not fetched: {cause}" for cause, count in self.failed.items()]
        words += [f"the server warns: {warning}" for warning in self.warnings]
        return ", ".join(words)


def fetch(
    url: str, settings: Settings, on_image: Callable[[FetchCounts], object] = lambda _counts: None
) -> tuple[Path, FetchCounts]:
    """The folder with all radiographs that `url` (`dicomweb+https://HOST/PATH?QUERY`) finds, and the counts.

    The query is one for studies (QIDO-RS). An interrupted fetch resumes where it stopped; one that had ended
    asks for every image anew, for a PACS may have corrected it, and removes those that the PACS has no more.
    Raises TargetAway, SpoolFull, and XraycamError for a query that finds nothing, or see `check_query`.
    """
    server = DicomWeb(url, settings)
    try:
        check_query(server.query)
        folder = hashlib.sha256(url.encode()).hexdigest()[:16]
        spool = Spool(settings.home / "spool" / "fetched", settings.spool_bytes)
        unfinished = spool.root / folder / _UNFINISHED
        resumes = unfinished.exists()
        counts, named = FetchCounts(warnings=server.warnings), set()
        for study, series, instance in _found(server, counts):
            file = spool.file_of(f"{folder}/{spool.name_of(study)}", instance)
            named.add(file)
            if not unfinished.exists():
                unfinished.parent.mkdir(parents=True, exist_ok=True)
                unfinished.touch()
            if resumes and file.exists():
                counts.kept += 1
            else:
                _fetch(server, spool, file, counts, (study, series, instance), settings.max_bytes)
            on_image(counts)
        if not counts.fetched + counts.kept:
            raise XraycamError(f"{server.name} gave no radiograph: {counts.line()}; check the query")
        for file in (spool.root / folder).rglob(f"*{SUFFIX}"):
            # Of a server that warns, nobody knows whether it has them no more.
            if file not in named and not server.warnings:
                file.unlink(missing_ok=True)
                counts.removed += 1
        unfinished.unlink(missing_ok=True)  # the same search may have been fetched beside this one
        return spool.root / folder, counts
    finally:
        server.close()


def search(url: str, settings: Settings) -> FetchCounts:
    """How many studies and images `fetch` would ask for. Raises TargetAway, XraycamError."""
    server = DicomWeb(url, settings)
    try:
        check_query(server.query)
        counts = FetchCounts(warnings=server.warnings)
        for _ in _found(server, counts):
            counts.found += 1
        return counts
    finally:
        server.close()


def _found(server: DicomWeb, counts: FetchCounts) -> Iterator[tuple[str, str, str]]:
    """UIDs of study, series and instance of all that may be a radiograph and is none of ours."""
    for study in _pages(server, "studies", server.query, _STUDY):
        counts.studies += 1
        study_uid = _uid(study, _STUDY)
        path = f"studies/{study_uid}/series"
        fields = [("includefield", _DESCRIPTION), ("includefield", _MANUFACTURER)]
        for series in _pages(server, path, fields, _SERIES):
            if is_own(_text(series, _MANUFACTURER), _text(series, _DESCRIPTION)):
                counts.own += 1
                continue
            if _text(series, _MODALITY).upper() not in _RADIOGRAPHY:
                counts.other_modality += 1
                continue
            series_uid = _uid(series, _SERIES)
            for instance in _pages(server, f"{path}/{series_uid}/instances", [], _INSTANCE):
                yield study_uid, series_uid, _uid(instance, _INSTANCE)


def _pages(server: DicomWeb, path: str, query: list[tuple[str, str]], key: str) -> Iterator[dict[str, Any]]:
    """All matches of a search, page by page; each once, also where a server knows no pages. Raises
    XraycamError where one gives a single page alone: files of matches kept back would be taken for gone."""
    seen: set[str] = set()
    while True:
        page = server.json(path, [*query, ("limit", str(_PAGE)), ("offset", str(len(seen)))])
        new = {_uid(match, key): match for match in page if _uid(match, key) not in seen}
        yield from new.values()
        seen |= set(new)
        if new:
            continue
        if len(page) == len(seen) == _PAGE:
            raise XraycamError(
                f"{server.name} gives {_PAGE} matches and the same ones again, so that nobody knows whether "
                "there are more; narrow the query, such as by StudyDate"
            )
        return


def _fetch(
    server: DicomWeb, spool: Spool, file: Path, counts: FetchCounts, uids: tuple[str, str, str], largest: int
) -> None:
    path = "studies/{}/series/{}/instances/{}".format(*uids)

    def read(answer: requests.Response) -> tuple[str, bytes]:
        if answer.status_code != 200:
            return "", b""
        return answer.headers.get("Content-Type", ""), body(answer, largest + _OVERHEAD)

    try:
        status, (kind, content) = server.request("GET", path, read, headers={"Accept": _ACCEPT})
    except XraycamError as error:
        if "an answer of more than" not in str(error):
            raise
        counts.failed[f"more than {largest:,} bytes"] += 1
        return
    if status != 200:
        counts.failed[f"HTTP {status}"] += 1
        return
    image = first_part(content, kind)
    if image is None or not is_dicom(image[:1024]):
        counts.failed["the answer is no DICOM"] += 1
    elif (identity := identify(image)).is_own:
        counts.own += 1
    elif identity.instance != uids[2]:
        counts.failed["the answer is another image"] += 1
    else:
        if spool.write(file, image):
            counts.fetched += 1
        else:
            counts.kept += 1


def first_part(content: bytes, kind: str) -> bytes | None:
    """The first part of a multipart answer (RFC 2046) of content type `kind`, or all of another answer; None
    where a part is not ended, and so may be cut short."""
    found = re.search(r'boundary="?([^";,]+)"?', kind)
    if not kind.lower().startswith("multipart/") or found is None:
        return content
    delimiter = b"--" + found[1].encode("latin-1")
    start = content.find(delimiter)
    head = content.find(b"\r\n\r\n", start)
    if start < 0 or head < 0:
        return None
    length = re.search(rb"(?i)content-length:\s*([0-9]+)", content[start:head])
    begin = head + 4
    if length is not None and content[begin + int(length[1]) :].startswith(b"\r\n" + delimiter):
        return content[begin : begin + int(length[1])]
    end = content.find(b"\r\n" + delimiter, begin)
    return content[begin:end] if end >= 0 else None


def _text(match: dict[str, Any], tag: str) -> str:
    values = match.get(tag, {}).get("Value") or [""] if isinstance(match, dict) else [""]
    return values[0] if isinstance(values[0], str) else ""


def _uid(match: dict[str, Any], tag: str) -> str:
    uid = _text(match, tag)
    if not _UID.fullmatch(uid):  # it becomes part of a path
        raise XraycamError(
            "the DICOMweb server answers a search without valid UIDs; check the path in its URL"
        )
    return uid
