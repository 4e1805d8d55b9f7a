"""Results of a run as DICOM objects at a target, with the fate of each in the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from db.exports import (
    RETRY,
    SENT,
    select_exportable,
    select_later_reports,
    select_predecessor,
    select_sent,
    upsert_exports,
)
from db.ledger import Ledger
from db.runs import Run
from producer.pacs.outgoing import Fate, Outgoing, Target, TargetAway
from producer.run_findings import findings_if_known
from worker.dicom_results.objects import MAP, ExplainedImage, ResultObject, make_objects, why_no_map
from worker.dicom_results.report import Predecessor
from worker.dicom_results.result import Result
from worker.dicom_results.source import ExportError, read_source
from worker.file_names import printable
from worker.images.reader import limits_of
from worker.remote.folder import file_of, place_of
from worker.settings import Settings

_BATCH_OBJECTS = 16
_BATCH_BYTES = 64_000_000


@dataclass
class ExportCounts:
    """What became of the images and objects of an export. `failed`: images by reason; `fates`: objects by
    state; `unchanged`: objects that the target had confirmed before."""

    images: int = 0
    not_dicom: int = 0
    unchanged: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)

    @property
    def is_whole(self) -> bool:
        return not self.failed and set(self.fates) <= {SENT}


@dataclass(frozen=True)
class ExportOptions:
    """`kinds`: of `objects.KINDS`. `again`: also what the target has confirmed before."""

    kinds: frozenset[str]
    rle: bool = False
    again: bool = False


@dataclass(frozen=True)
class _History:
    """What the ledger has of earlier reports about an image, see `worker.dicom_results.objects.History`."""

    ledger: Ledger
    sha256: str
    model_version: str
    target: str

    def predecessor_of(self, uid: str) -> Predecessor | None:
        found = self.ledger.query(select_predecessor, self.sha256, self.model_version, uid)
        return None if found is None else Predecessor(*found)

    def later_than(self, uid: str) -> list[Predecessor]:
        found = self.ledger.query(select_later_reports, self.sha256, self.model_version, uid, self.target)
        return [Predecessor(*one) for one in found]


def export_run(
    ledger: Ledger,
    settings: Settings,
    run: Run,
    target: Target,
    options: ExportOptions,
    tell: Callable[[str], object],
    on_image: Callable[[], object] = lambda: None,
) -> ExportCounts:
    """Send the objects of all done images of a run that are DICOM; an image that
    fails is told of by `tell`, in a line without identity, and holds up no other.

    Raises TargetAway when the target does not answer any more: what was sent is recorded, the rest is not.
    """
    counts = ExportCounts()
    batch: list[tuple[dict[str, Any], Outgoing]] = []
    size = 0
    for row, found in _objects(ledger, settings, run, target, options, counts, tell, on_image):
        record, outgoing = _record(run, row, found, target), _outgoing(found)
        batch.append((record, outgoing))
        size += len(outgoing.content)
        if len(batch) >= _BATCH_OBJECTS or size >= _BATCH_BYTES:
            _send(ledger, target, batch, options, counts)
            batch, size = [], 0
    _send(ledger, target, batch, options, counts)
    return counts


def _objects(
    ledger: Ledger,
    settings: Settings,
    run: Run,
    target: Target,
    options: ExportOptions,
    counts: ExportCounts,
    tell: Callable[[str], object],
    on_image: Callable[[], object],
) -> Iterator[tuple[dict[str, Any], ResultObject]]:
    limits = limits_of(settings)
    root, output = place_of(run.root), place_of(run.output)
    findings = findings_if_known(ledger, settings, run)
    for row in _rows(ledger, run.id):
        counts.images += 1
        on_image()
        try:
            source = read_source(root, row["path"], row["sha256"], limits)
            if source is None:
                counts.not_dicom += 1
                continue

            image = ExplainedImage(
                result=Result.from_row(row, findings),
                options=run.options,
                overlay=None if row["overlay"] is None else file_of(output, row["overlay"]),
                heatmaps=None if row["heatmap"] is None else file_of(output, row["heatmap"]),
                sha256=row["sha256"],
            )
            # All of an image or nothing: a report does not refer to what was not made. A map is an extra.
            kinds = options.kinds
            if MAP in kinds and len(kinds) > 1 and (why := why_no_map(source, image)) is not None:
                counts.failed[why.reason] += 1
                tell(f"{printable(row['path'])}: {why.reason}: {why}")
                kinds -= {MAP}
            history = _History(ledger, row["sha256"], row["model_version"], target.name)
            made = list(make_objects(source, image, kinds, history, options.rle))
        except ExportError as error:
            counts.failed[error.reason] += 1
            tell(f"{printable(row['path'])}: {error.reason}: {error}")
            continue
        for found in made:
            yield row, found


def _rows(ledger: Ledger, run_id: int) -> Iterator[dict[str, Any]]:
    after = 0
    while True:
        # In parts: the database keeps no transaction open while a PACS is waited for.
        rows = ledger.query(select_exportable, run_id, after)
        if not rows:
            return
        yield from rows
        after = rows[-1]["image_id"]


def _record(run: Run, row: dict[str, Any], found: ResultObject, target: Target) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "image_id": row["image_id"],
        "kind": found.kind,
        "target": target.name,
        "instance_uid": found.made.uid,
        "series_uid": found.made.series_uid,
        "source_sha256": row["sha256"],
        "model_version": row["model_version"],
    }


def _outgoing(found: ResultObject) -> Outgoing:
    dataset = found.made.dataset
    return Outgoing(
        found.made.uid,
        str(dataset.SOPClassUID),
        str(dataset.file_meta.TransferSyntaxUID),
        found.made.content(),
    )


def _send(
    ledger: Ledger,
    target: Target,
    batch: list[tuple[dict[str, Any], Outgoing]],
    options: ExportOptions,
    counts: ExportCounts,
) -> None:
    if batch and target.keeps and not options.again:
        sent = ledger.query(select_sent, target.name, [outgoing.uid for _, outgoing in batch])
        counts.unchanged += len(sent)
        batch = [entry for entry in batch if entry[1].uid not in sent]
    if not batch:
        return
    try:
        fates = target.send([outgoing for _, outgoing in batch])
    except TargetAway as error:
        _record_fates(ledger, batch, [Fate(RETRY, str(error))] * len(batch), counts)
        raise
    _record_fates(ledger, batch, fates, counts)


def _record_fates(
    ledger: Ledger, batch: list[tuple[dict[str, Any], Outgoing]], fates: list[Fate], counts: ExportCounts
) -> None:
    counts.fates.update(fate.state for fate in fates)
    counts.answers.update(f"{fate.state}: {fate.answer}" for fate in fates if fate.answer is not None)
    rows = [
        record | {"state": fate.state, "answer": fate.answer}
        for (record, _), fate in zip(batch, fates, strict=True)
    ]
    ledger.write(upsert_exports, rows)
