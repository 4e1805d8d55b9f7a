"""`xraycam run` and `enqueue`: a folder explained on this machine, or handed to workers elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.explain.names import AUTO, COLORMAPS, METHODS, OUTPUT_FORMATS, SCALES
from worker.images.dicom import ACCEPTABLE

if TYPE_CHECKING:
    from producer.enqueue import Enqueued, Request
    from producer.session import Session
    from worker.folder_walk import WalkCounts

_OPTIONS = (
    click.argument("folder", type=click.Path(path_type=Path)),
    click.option("--layer", "layers", multiple=True, default=(AUTO,), show_default=True,
                 help="Layer to explain; repeat for a strip of several. 'auto': the one measured best for "
                 "the model."),
    click.option("--method", "methods", multiple=True, type=click.Choice((AUTO, *METHODS)), default=(AUTO,),
                 show_default=True, help="Class activation map method; repeatable like --layer. 'auto': the "
                 "one measured best for the model."),
    click.option("--target", default=AUTO, show_default=True,
                 help="Class whose score is explained: 'predicted', 'all' for a map of each, or a class by "
                 "name. 'auto': the model's positive class, the predicted one where it names none."),
    click.option("--masks", type=click.Path(path_type=Path),
                 help="Marked areas, lungs or lesions: a folder of masks named as the images, or a JSON "
                 "file; the share of heat inside goes into the results."),
    click.option("--colormap", type=click.Choice(COLORMAPS), default="inferno", show_default=True,
                 help="Colours of the heatmap; 'blue-red' as in the reference script."),
    click.option("--opacity", type=click.FloatRange(0, 1), default=0.5, show_default=True,
                 help="Share of colour where the heatmap is hottest."),
    click.option("--scale", type=click.Choice(SCALES), default="version", show_default=True,
                 help="Where colours end: at the heat that the model version's strongest maps reach, so "
                 "that weak evidence looks weak, or at each image's own maximum."),
    click.option("--no-caption", is_flag=True, help="No band under the picture, which keeps its own size."),
    click.option("--outlines", is_flag=True, help="Draw the outlines of what --masks marks."),
    click.option("--output-format", type=click.Choice(OUTPUT_FORMATS), default="jpeg", show_default=True,
                 help="File format of the overlays."),
    click.option("--heatmaps", is_flag=True, help="Keep the raw heatmaps (.npz) beside the overlays."),
    click.option("--model", help="Model version to use; without it, whichever is current."),
    click.option("--glob", "globs", multiple=True,
                 help="Only files that match, such as '*.png'; repeatable."),
    click.option("--accept", multiple=True, type=click.Choice(ACCEPTABLE),
                 help="Explain DICOM files of this kind too, which are otherwise refused; repeatable."),
    click.option("--output", type=click.Path(path_type=Path), help="Folder for the overlays."),
    click.option("--force", is_flag=True, help="Do all again, as a new run, even what is done."),
    click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing."),
)  # fmt: skip


def request_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command; it gets them as `**given`, for `request_from`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def request_from(given: dict[str, Any]) -> Request:
    from producer.enqueue import Request
    from worker.explain.options import ExplainOptions

    masks = given["masks"]
    if given["outlines"] and masks is None:
        raise click.UsageError("--outlines needs --masks, which says what is marked.")
    options = ExplainOptions(
        layers=() if given["layers"] == (AUTO,) else given["layers"],
        methods=() if given["methods"] == (AUTO,) else given["methods"],
        target=given["target"],
        colormap=given["colormap"],
        opacity=given["opacity"],
        output_format=given["output_format"],
        heatmaps=given["heatmaps"],
        scale=given["scale"],
        caption=not given["no_caption"],
        outlines=given["outlines"],
        masks=None if masks is None else str(masks.expanduser().absolute()),
        accept=tuple(sorted(set(given["accept"]))),
    )
    return Request(given["folder"], options, given["model"], given["globs"], given["force"], given["output"])


def report_dry_run(session: Session, request: Request) -> None:
    """Scan, and print what would be enqueued."""
    from producer.enqueue import check_request, nothing_found, scan_request
    from producer.scan import ScanCounts
    from worker.errors import XraycamError

    folder, version = check_request(session.ledger, session.settings, request)
    counts = ScanCounts()
    size = sum(file.size for file in scan_request(session.settings, request, folder, counts))
    if not counts.found:
        raise XraycamError(nothing_found(request.folder, counts))
    chunks = -(-counts.found // session.settings.chunk_size)
    click.echo(
        f"would enqueue {counts.found} images ({size / 1e6:.1f} MB) of {folder.root} in {chunks} chunks, "
        f"to be explained by model {version}"
    )
    report_skipped(counts)


def report_enqueued(enqueued: Enqueued) -> None:
    """Say on standard error what was taken in and what was left out."""
    ingested, run = enqueued.ingested, enqueued.run
    words = [f"{ingested.new} new"]
    if not enqueued.is_new:
        words += [
            f"{ingested.unchanged} known already",
            f"{ingested.changed} changed",
            f"{ingested.retried} to retry",
        ]
    what = "run" if enqueued.is_new else "continues run"
    click.echo(f"{what} {run.id}: {enqueued.scanned.found} images, {', '.join(words)}", err=True)
    if enqueued.masks_matched is not None:
        click.echo(f"masks: {enqueued.masks_matched} of {enqueued.scanned.found} images matched", err=True)
    report_skipped(enqueued.scanned)


def report_skipped(counts: WalkCounts) -> None:
    for line in counts.lines():
        click.echo(line, err=True)


if TYPE_CHECKING:
    from db.runs import Run
    from producer.session import Session


def send_or_run_here(session: Session, run: Run) -> int:
    """The exit status."""
    from db import runs
    from producer.cli import SOME_FAILED
    from producer.local_run import run_locally, stopped_on_error
    from producer.publish import publish_chunks

    found = runs.progress(session.ledger, run.id)
    if found.is_complete:
        click.echo(f"run {run.id} is complete: {found.done} done, {found.failed} failed", err=True)
        return SOME_FAILED if found.failed else 0
    if session.settings.broker is None:
        return run_locally(session, run)
    session.require_broker()
    with stopped_on_error(session.ledger, run):
        sent = publish_chunks(session.settings, session.ledger, run, found.chunks)
    click.echo(f"run {run.id}: {found.pending} images in {sent} chunks sent to the workers", err=True)
    return 0


@click.command("run")
@request_options
@click.option("--gpus", default="all", show_default=True, help="GPUs to use: all, none, or numbers: 0,1.")
def run_command(gpus: str, dry_run: bool, **given: Any) -> None:
    """Explain every X-ray of FOLDER: start what is needed, wait, stop it again.

    Needs no servers: a private Valkey server and a SQLite ledger are used unless XRAYCAM_BROKER_URL and
    XRAYCAM_DATABASE_URL name others. The same command again does only what is new or not done.

    \b
    Example:
      xraycam run ./xrays --layer block_15_add --layer out_relu
    """
    from producer.cli import INTERRUPTED
    from producer.commands.run import report_dry_run, report_enqueued
    from producer.enqueue import enqueue
    from producer.local_run import run_locally
    from producer.session import open_session
    from worker.supervisor.devices import devices_for

    session = open_session()
    request = request_from(given)
    if dry_run:
        report_dry_run(session, request)
        return
    devices_for(gpus)  # refused before a run is opened
    if session.settings.broker is not None:
        session.require_broker()
    try:
        with session.err.status("scanning") as status:
            enqueued = enqueue(
                session.ledger,
                session.settings,
                request,
                lambda found: status.update(f"scanning: {found} images"),
            )
    except KeyboardInterrupt:
        click.echo("stopped while scanning; the same command goes on with it", err=True)
        raise SystemExit(INTERRUPTED) from None
    report_enqueued(enqueued)
    raise SystemExit(run_locally(session, enqueued.run, gpus))


@click.command("enqueue")
@request_options
def enqueue_command(dry_run: bool, **given: Any) -> None:
    """Enqueue every X-ray of FOLDER for the workers, and print the run's number.

    Needs XRAYCAM_BROKER_URL. The workers must see the folder under the same path.

    \b
    Example:
      xraycam watch $(xraycam enqueue /archive/xrays)
    """
    from db import runs
    from producer.cli import INTERRUPTED
    from producer.commands.run import report_dry_run, report_enqueued
    from producer.enqueue import enqueue
    from producer.local_run import stopped_on_error
    from producer.publish import publish_chunks
    from producer.session import open_session

    session = open_session()
    request = request_from(given)
    if dry_run:
        report_dry_run(session, request)
        return
    session.require_broker()
    then = "the same command goes on with it"
    try:
        with session.err.status("scanning") as status:
            enqueued = enqueue(
                session.ledger,
                session.settings,
                request,
                lambda found: status.update(f"scanning: {found} images"),
            )
            then = f"'xraycam resume {enqueued.run.id}' sends the rest to the workers"
            report_enqueued(enqueued)
            chunks = runs.progress(session.ledger, enqueued.run.id).chunks
            with stopped_on_error(session.ledger, enqueued.run):
                publish_chunks(
                    session.settings,
                    session.ledger,
                    enqueued.run,
                    chunks,
                    lambda: status.update("the queue is full, or the broker away: waiting"),
                )
    except KeyboardInterrupt:
        click.echo(f"stopped; {then}", err=True)
        raise SystemExit(INTERRUPTED) from None
    click.echo(enqueued.run.id)
