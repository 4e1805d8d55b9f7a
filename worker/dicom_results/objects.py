"""All DICOM objects of one explained image: which, with which UIDs, in which series."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from worker.dicom_results.capture import make_capture, read_overlay
from worker.dicom_results.common import Made
from worker.dicom_results.equipment import uid_of
from worker.dicom_results.parametric_map import laid_over, make_map
from worker.dicom_results.report import Predecessor, make_report
from worker.dicom_results.result import Result, rounded
from worker.dicom_results.source import ExportError, Source
from worker.errors import XraycamError
from worker.explain.caption import maximum_of
from worker.explain.overlay import read_heatmaps
from worker.remote.folder import RemotePath

CAPTURE, REPORT, MAP = "capture", "report", "map"
KINDS = (CAPTURE, REPORT, MAP)


class History(Protocol):
    """The reports about one image by one model that were made before."""

    def predecessor_of(self, uid: str) -> Predecessor | None:
        """The earlier report that the one of this UID revises, by when that was made first."""

    def later_than(self, uid: str) -> Sequence[Predecessor]:
        """The reports that the target has and that were made first after the one of this UID, in that order;
        empty where that was not made before."""


class NoHistory:
    """Of an image that nothing was said about before."""

    def predecessor_of(self, uid: str) -> Predecessor | None:
        return None

    def later_than(self, uid: str) -> Sequence[Predecessor]:
        return ()


@dataclass(frozen=True)
class ExplainedImage:
    """A result and where its files are. `options`: of its run, as plain JSON values."""

    result: Result
    options: Mapping[str, Any]
    overlay: Path | RemotePath | None
    heatmaps: Path | RemotePath | None
    sha256: str


@dataclass(frozen=True)
class ResultObject:
    """One object and its kind."""

    kind: str
    made: Made


def make_objects(
    source: Source,
    image: ExplainedImage,
    kinds: frozenset[str],
    history: History | None = None,
    rle: bool = False,
) -> Iterator[ResultObject]:
    """The objects of `kinds`, the report last: it refers to the others.

    Each kind and model version has a series of its own in the source's study. UIDs follow from the source
    and whose it is, the model version, the options and what an object says, so that a repeat makes the same
    object again. A report that says what an earlier one said, after others, is a new one that revises the
    last, see `_report`. Raises ExportError.
    """
    try:
        yield from _objects(source, image, kinds, history or NoHistory(), rle)
    except ExportError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        # Of highdicom, whose text may quote the patient.
        raise ExportError("not-valid", f"its header cannot be repeated ({type(error).__name__})") from None


def _objects(
    source: Source, image: ExplainedImage, kinds: frozenset[str], history: History, rle: bool
) -> Iterator[ResultObject]:
    images = []
    if CAPTURE in kinds:
        capture = _capture(source, image, rle)
        images.append(capture.dataset)
        yield ResultObject(CAPTURE, capture)
    if MAP in kinds:
        for made in _maps(source, image):
            images.append(made.dataset)
            yield ResultObject(MAP, made)
    if REPORT in kinds:
        yield ResultObject(REPORT, _report(source, image, images, history))


def _report(source: Source, image: ExplainedImage, images: list[Any], history: History) -> Made:
    """The report. Where the target has later ones than the one of the same words, that one would not be the
    current one: then it is a new one, which revises the last of them; unless the last is that new one."""
    said = {"says": image.result.statement(), "refers": [str(other.SOPInstanceUID) for other in images]}
    uids = _uids(source, image, REPORT, said)
    later = history.later_than(uids[1])
    if not later:
        return make_report(source, image.result, uids, images, history.predecessor_of(uids[1]))
    *before, last = later
    for revised in (*before, last):
        uids = _uids(source, image, REPORT, said | {"revises": revised.uid})
        if uids[1] == last.uid:
            break
    return make_report(source, image.result, uids, images, revised)


def _capture(source: Source, image: ExplainedImage, rle: bool) -> Made:
    if image.overlay is None:
        raise ExportError("no-overlay", "it has no overlay; run its folder again with --force")
    content = read_overlay(image.overlay)
    # An overlay whose run drew a caption needs no other.
    lines = [] if image.options.get("caption") else image.result.caption()
    said = {"picture": hashlib.sha256(content).hexdigest(), "caption": lines, "rle": rle}
    return make_capture(source, image.result, _uids(source, image, CAPTURE, said), content, lines, rle)


def why_no_map(source: Source, image: ExplainedImage) -> ExportError | None:
    """Why there can be no map of an image; None if there can."""
    try:
        _heatmaps(source, image)
    except ExportError as error:
        return error
    return None


def _heatmaps(source: Source, image: ExplainedImage) -> tuple[dict[str, Any], float]:
    if image.heatmaps is None:
        raise ExportError("no-map", "its run kept no heatmaps; run its folder with --heatmaps")
    if not source.is_as_stored:
        raise ExportError(
            "no-map", "its pixels were turned or resized before they were explained, so that no map fits them"
        )
    try:
        arrays, margin, sha256 = read_heatmaps(image.heatmaps)
    except XraycamError as error:
        raise ExportError("no-map", str(error)) from error
    if sha256 != image.sha256:
        raise ExportError(
            "no-map", "its heatmaps are of another image, or it has changed since; run it again"
        )
    maxima = image.result.maxima
    unknown = [name for name in arrays if maxima and maximum_of(name, maxima) is None]
    if unknown:
        raise ExportError(
            "no-map",
            f"its result has no maximum of {', '.join(unknown)}: its heatmaps are of another result; run its "
            "folder again with --heatmaps --force",
        )
    return arrays, margin


def _maps(source: Source, image: ExplainedImage) -> Iterator[Made]:
    arrays, margin = _heatmaps(source, image)
    for number, (name, heatmap) in enumerate(arrays.items(), start=1):
        maximum = rounded(maximum_of(name, image.result.maxima))
        said = {"name": name, "values": hashlib.sha256(heatmap.tobytes()).hexdigest(), "maximum": maximum}
        uids = _uids(source, image, MAP, said)
        values = laid_over(heatmap, margin, source.rows, source.columns)
        yield make_map(source, image.result, uids, number, name, values, maximum)


def _uids(source: Source, image: ExplainedImage, kind: str, said: Mapping[str, Any]) -> tuple[str, str]:
    """Of the series and of the instance."""
    version = image.result.model_version
    # How a run is drawn shows in the picture; where masks lie is no part of what is said.
    options = {name: value for name, value in image.options.items() if name not in ("masks", "accept")}
    return (
        uid_of("series", kind, source.study_uid, version),
        uid_of("instance", kind, source.uid, source.identity_digest, version, options, said),
    )
