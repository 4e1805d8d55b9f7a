"""What `run` and `enqueue` say of a scanned folder: on standard error, or with --dry-run as output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.counted_words import counted
from worker.file_names import printable
from worker.score_words import threshold_words

if TYPE_CHECKING:
    from db.ingest import IngestStats
    from producer.enqueue import Enqueued, Request
    from producer.session import Session
    from worker.folder_walk import WalkCounts
    from worker.images.masks import MaskMatches


def report_dry_run(session: Session, request: Request) -> None:
    """Scan, and print what the same command without --dry-run would do."""
    from producer.enqueue import preview

    found = preview(session.ledger, session.settings, request)
    stats = found.found
    todo = stats.new + stats.changed + stats.retried + stats.pending
    what = "a new run" if found.run is None else f"run {found.run.id}, continued"
    click.echo(
        f"would enqueue {counted(todo, 'image')} of {printable(str(found.folder))} in "
        f"{counted(found.chunks, 'chunk')}: {what}, model {found.version}"
        + (
            ""
            if found.threshold is None
            else f", referred from a score of {threshold_words(found.threshold)} on"
        )
    )
    click.echo(
        f"of {counted(found.scanned.found, 'image')} found ({found.size / 1e6:.1f} MB): "
        f"{', '.join(_compared(stats))}"
    )
    if found.gone:
        click.echo(_gone_line(found.gone))
    _report_masks(found.masks)
    _report_skipped(found.scanned)


def report_enqueued(enqueued: Enqueued) -> None:
    """Say on standard error what was taken in and what was left out."""
    ingested, run = enqueued.ingested, enqueued.run
    words = [f"{ingested.new} new"] if enqueued.is_new else _compared(ingested)
    what = "run" if enqueued.is_new else "continues run"
    click.echo(f"{what} {run.id}: {counted(enqueued.scanned.found, 'image')}, {', '.join(words)}", err=True)
    if enqueued.gone:
        click.echo(_gone_line(enqueued.gone), err=True)
    _report_masks(enqueued.masks)
    _report_skipped(enqueued.scanned)


def _compared(stats: IngestStats) -> list[str]:
    """How files stand to a run, in words that add up to all of them."""
    pending = [f"{stats.pending} pending"] if stats.pending else []
    return [
        f"{stats.new} new",
        f"{stats.unchanged - stats.pending} done already",
        *pending,
        f"{stats.changed} changed",
        f"{stats.retried} to retry",
    ]


def _gone_line(count: int) -> str:
    """What is said of images whose files were deleted after they had been enqueued."""
    if count == 1:
        return "1 image of the run is no longer in the folder; its result stays, with gone_at set"
    return f"{count} images of the run are no longer in the folder; their results stay, with gone_at set"


def _report_masks(masks: MaskMatches | None) -> None:
    """Say how many images have a mask, and which masks have no image."""
    for line in () if masks is None else masks.lines():
        click.echo(line, err=True)


def _report_skipped(counts: WalkCounts) -> None:
    for line in counts.lines():
        click.echo(line, err=True)
