"""`xraycam run` and `enqueue`: a folder explained on this machine, or handed to workers elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from producer.commands.workers import batch_size_option
from producer.duration_argument import Duration
from producer.enqueue_report import report_dry_run, report_enqueued
from producer.overlay_side_argument import OverlaySide
from producer.places import FolderOrUrl, LocalPath, OutputPlace
from worker.counted_words import counted
from worker.explain.names import AUTO, COLORMAPS, METHODS, OUTPUT_FORMATS, SCALES, USUAL_SIDE
from worker.images.dicom import ACCEPTABLE
from worker.odd_words import FLAG, ODD_CHOICES
from worker.remote.folder import RemoteFolder

if TYPE_CHECKING:
    from db.runs import Run
    from producer.early_start import EarlyStart
    from producer.enqueue import Request
    from producer.session import Session
    from producer.warm_workers import WarmWorkers


def local_folder(session: Session, given: dict[str, Any]) -> int:
    """Have what a URL finds as a folder in `given`; how many images of it could not be fetched."""
    if isinstance(given["folder"], (Path, RemoteFolder)):
        return 0
    from producer.pacs.fetch import fetch

    with session.err.status("asking the PACS") as status:
        given["folder"], counts = fetch(
            given["folder"], session.settings, lambda counts: status.update(counts.line())
        )
    click.echo(counts.line(), err=True)
    return sum(counts.failed.values())


def report_search(session: Session, given: dict[str, Any]) -> bool:
    """For --dry-run, where a URL is given: say what would be fetched, and fetch nothing."""
    if isinstance(given["folder"], (Path, RemoteFolder)):
        return False
    from producer.pacs.fetch import search

    with session.err.status("asking the PACS"):
        counts = search(given["folder"], session.settings)
    click.echo(
        f"would fetch {counted(counts.found, 'image')} of {counts.studies} studies, and enqueue those that "
        "are new or have changed"
    )
    for warning in counts.warnings:
        click.echo(f"the server warns: {warning}", err=True)
    return True


_OPTIONS = (
    click.argument("folder", type=FolderOrUrl(), metavar="FOLDER|URL"),
    click.option("--layer", "layers", multiple=True, default=(AUTO,), show_default=True,
                 help="Layer to explain; repeat for a strip of several. 'auto': the one measured best for "
                 "the model."),
    click.option("--method", "methods", multiple=True, type=click.Choice((AUTO, *METHODS)), default=(AUTO,),
                 show_default=True, help="Class activation map method; repeatable like --layer. 'auto': the "
                 "one measured best for the model."),
    click.option("--target", default=AUTO, show_default=True,
                 help="Class whose score is explained: 'predicted', 'all' for a map of each, or a class by "
                 "name. 'auto': the model's positive class, the predicted one where it names none."),
    click.option("--masks", type=LocalPath(path_type=Path),
                 help="Marked areas, lungs or lesions: a folder of masks named as the images, or a JSON "
                 "file; the share of heat inside goes into the results."),
    click.option("--colormap", type=click.Choice(COLORMAPS), default="inferno", show_default=True,
                 help="Colours of the heatmap; 'blue-red' as in the reference script."),
    click.option("--opacity", type=click.FloatRange(0, 1), default=0.5, show_default=True,
                 help="Share of colour where the heatmap is hottest."),
    click.option("--scale", type=click.Choice(SCALES), default="version", show_default=True,
                 help="Where colours end: at the heat that the hottest quarter of the model version's "
                 "validation images reach, so that weak evidence looks weak; or at each image's own "
                 "maximum."),
    click.option("--no-caption", is_flag=True, help="No band under the picture."),
    click.option("--outlines", is_flag=True, help="Draw the outlines of what --masks marks."),
    click.option("--output-format", type=click.Choice(OUTPUT_FORMATS), default="jpeg", show_default=True,
                 help="File format of the overlays."),
    click.option("--overlay-side", type=OverlaySide(), metavar="N|full", default=USUAL_SIDE,
                 show_default=True, help="Longer side of the overlays' pictures in pixels, at most; 'full': "
                 "the image's own. It changes how they are drawn, and nothing that is measured."),
    click.option("--heatmaps", is_flag=True, help="Keep the raw heatmaps (.npz) beside the overlays."),
    click.option("--model", help="Model version to use; without it, whichever is current."),
    click.option("--site", help="Decide by the threshold that 'calibrate --site' made for this site and the "
                 "model version."),
    click.option("--threshold", type=click.FloatRange(0, 100), help="Refer images from this score on."),
    click.option("--operating-point", metavar="NAME",
                 help="Decide by a threshold from the model's own validation images: sensitivity-90, "
                 "sensitivity-95 or specificity-70."),
    click.option("--glob", "globs", multiple=True,
                 help="Only files that match, such as '*.png'; repeatable."),
    click.option("--accept", multiple=True, type=click.Choice(ACCEPTABLE),
                 help="Explain files of this kind too, which are otherwise refused; repeatable."),
    click.option("--keep-age-sex", is_flag=True,
                 help="Keep age and sex of DICOM files in the results; else they are not kept."),
    click.option("--odd", type=click.Choice(ODD_CHOICES), default=FLAG, show_default=True,
                 help="Images that look like no upright chest radiograph: 'flag' explains and marks them, "
                 "'refuse' fails them."),
    click.option("--output", type=OutputPlace(), metavar="FOLDER|URL",
                 help="Where the overlays go: a folder, or s3://BUCKET/PREFIX."),
    click.option("--dicom-results", metavar="FOLDER|URL",
                 help="When all is done, send captures and reports of DICOM images there, see export-dicom."),
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
        overlay_side=given["overlay_side"],
        heatmaps=given["heatmaps"],
        scale=given["scale"],
        caption=not given["no_caption"],
        outlines=given["outlines"],
        masks=None if masks is None else str(masks.expanduser().absolute()),
        odd=given["odd"],
        accept=tuple(sorted(set(given["accept"]))),
        site=given["site"],
        threshold=given["threshold"],
        keep_age_sex=given["keep_age_sex"],
    )
    return Request(
        given["folder"],
        options,
        given["model"],
        given["globs"],
        given["force"],
        given["output"],
        given["operating_point"],
    )


def send_or_run_here(session: Session, run: Run) -> int:
    """The exit status."""
    from db import runs
    from producer.cli import SOME_FAILED
    from producer.local_run import run_locally, stopped_on_error
    from producer.publish import publish_chunks
    from producer.run_summary import halted_status

    found = session.ledger.query(runs.progress, run.id)
    if found.is_complete:
        click.echo(f"run {run.id} is complete: {found.done} done, {found.failed} failed", err=True)
        return SOME_FAILED if found.failed else 0
    if session.settings.broker is None:
        return run_locally(session, run)
    session.require_broker()
    with stopped_on_error(session.ledger, run):
        sent = publish_chunks(session.settings, session.ledger, run, found.chunks)
    what = f"{counted(found.pending, 'image')} in {counted(sent, 'chunk')}"
    click.echo(f"run {run.id}: {what} sent to the workers", err=True)
    return halted_status(session, run)


@click.command("run")
@request_options
@click.option("--gpus", default="all", show_default=True, help="GPUs to use: all, none, or numbers: 0,1.")
@batch_size_option
@click.option(
    "--keep-warm",
    type=Duration(),
    metavar="DURATION",
    help="Keep the workers for so long after the run, such as 90s, 10m or 2h: the next run of the "
    "same home then starts at once. 'xraycam workers --stop-warm' ends them.",
)
@click.option("--no-report", is_flag=True, help="Do not write the report that opens in a browser.")
def run_command(
    gpus: str,
    keep_warm: float | None,
    no_report: bool,
    dry_run: bool,
    dicom_results: str | None,
    **given: Any,
) -> None:
    """Explain every X-ray of FOLDER: start what is needed, wait, stop it again.

    In place of a folder, dicomweb+https://HOST/dicom-web?QUERY fetches what a PACS finds for the query.

    Needs no servers: a private Valkey server and a SQLite ledger are used unless XRAYCAM_BROKER_URL and
    XRAYCAM_DATABASE_URL name others. The same command again does only what is new or not done.

    \b
    Example:
      xraycam run ./xrays --layer block_15_add --layer out_relu
    """
    from producer.early_start import early_start
    from worker.errors import XraycamError
    from worker.settings import load_settings

    settings = load_settings()
    if keep_warm is not None and settings.broker is not None:
        raise XraycamError(
            "--keep-warm is for runs without a broker, and XRAYCAM_BROKER_URL is set; leave it out: workers "
            "of 'xraycam worker' stay until they are stopped"
        )
    with early_start(settings, gpus, "" if dry_run else given["folder"], keep_warm, _say) as early:
        raise SystemExit(_run(gpus, keep_warm, no_report, dry_run, dicom_results, given, early))


def _say(line: str) -> None:
    click.echo(line, err=True)


def _run(
    gpus: str,
    keep_warm: float | None,
    no_report: bool,
    dry_run: bool,
    dicom_results: str | None,
    given: dict[str, Any],
    early: EarlyStart | WarmWorkers | None,
) -> int:
    from producer.cli import INTERRUPTED, SOME_FAILED
    from producer.commands.pacs import check_target, send_results
    from producer.enqueue import enqueue
    from producer.local_run import run_locally
    from producer.session import open_session
    from producer.status_line import doing
    from worker.supervisor.devices import devices_for

    session = open_session()
    if dry_run:
        if not report_search(session, given):
            report_dry_run(session, request_from(given))
        return 0
    check_target(session, dicom_results)
    devices_for(gpus)  # refused before anything is fetched, and a run opened
    if session.settings.broker is not None:
        session.require_broker()
    missing = local_folder(session, given)
    request = request_from(given)
    try:
        with doing(session.err, "scanning") as tell:
            enqueued = enqueue(
                session.ledger,
                session.settings,
                request,
                lambda found: tell(f"scanning, {found:,} files"),
            )
    except KeyboardInterrupt:
        click.echo("stopped while scanning; the same command continues it", err=True)
        return INTERRUPTED
    report_enqueued(enqueued)
    status_here = run_locally(
        session, enqueued.run, gpus, with_report=not no_report, early=early, keep_warm=keep_warm
    )
    if dicom_results is not None and status_here != INTERRUPTED:
        status_here = max(status_here, send_results(session, enqueued.run, dicom_results))
    return max(status_here, SOME_FAILED if missing else 0)


@click.command("enqueue")
@request_options
@click.option("--wait", is_flag=True, help="Show the progress until all is done, and print the summary.")
def enqueue_command(dry_run: bool, wait: bool, dicom_results: str | None, **given: Any) -> None:
    """Enqueue every X-ray of FOLDER for the workers, and print the run's number.

    With --dicom-results it waits for the workers, and then sends.

    Needs XRAYCAM_BROKER_URL. The workers must see the folder under the same path.

    \b
    Example:
      xraycam watch $(xraycam enqueue /archive/xrays)
    """
    from db import runs
    from producer.cli import INTERRUPTED, SOME_FAILED
    from producer.commands.pacs import check_target, send_results
    from producer.enqueue import enqueue
    from producer.local_run import stopped_on_error
    from producer.publish import publish_chunks
    from producer.run_summary import halted_status, watch_run
    from producer.session import open_session
    from producer.status_line import doing

    session = open_session()
    if dry_run:
        if not report_search(session, given):
            report_dry_run(session, request_from(given))
        return
    check_target(session, dicom_results)
    session.require_broker()
    missing = local_folder(session, given)
    request = request_from(given)
    then = "the same command continues it"
    try:
        with doing(session.err, "scanning") as tell:
            enqueued = enqueue(
                session.ledger,
                session.settings,
                request,
                lambda found: tell(f"scanning, {found:,} files"),
            )
            then = f"'xraycam resume {enqueued.run.id}' sends the rest to the workers"
            report_enqueued(enqueued)
            if (halted := halted_status(session, enqueued.run)) != 0:
                raise SystemExit(halted)
            chunks = session.ledger.query(runs.progress, enqueued.run.id).chunks
            with stopped_on_error(session.ledger, enqueued.run):
                waiting = _WaitingToSend(session, enqueued.run, tell)
                publish_chunks(session.settings, session.ledger, enqueued.run, chunks, waiting.tell)
    except KeyboardInterrupt:
        click.echo(f"stopped; {then}", err=True)
        raise SystemExit(INTERRUPTED) from None
    ended = SOME_FAILED if missing else 0
    if wait or dicom_results is not None:
        ended = max(ended, watch_run(session, enqueued.run))
        if dicom_results is not None and ended != INTERRUPTED:
            ended = max(ended, send_results(session, enqueued.run, dicom_results))
    else:
        ended = max(ended, halted_status(session, enqueued.run))
        click.echo(enqueued.run.id)
    raise SystemExit(ended)


class _WaitingToSend:
    """Says that messages wait to be sent, in a terminal at once, elsewhere once a minute."""

    def __init__(self, session: Session, run: Run, show: Callable[[str], object]) -> None:
        from producer.stall_notice import StallNotice

        self._session = session
        self._show = show
        self._notice = StallNotice(session.err, f"run {run.id}")

    def tell(self) -> None:
        self._show("the queue is full, or the broker away: waiting")
        self._notice.look(None, self._why)

    def _why(self) -> str:
        from producer.known_workers import live_workers
        from producer.progress import inference_workers
        from worker.queue.broker import BrokerUnreachable, queue_length
        from worker.queue.messages import EXPLAIN_QUEUE

        settings = self._session.settings
        assert settings.broker is not None  # the command looked
        try:
            messages = queue_length(settings.broker, EXPLAIN_QUEUE)
        except BrokerUnreachable as error:
            return str(error)
        live = live_workers(self._session.ledger)
        workers = inference_workers(live)
        said = f"{counted(messages, 'message')} in the queue, of {settings.max_queued_messages} at most"
        errors = "".join(f"; last error: {worker.last_error}" for worker in live if worker.last_error)
        return f"{said}, {counted(workers, 'live worker') if workers else 'no worker is alive'}{errors}"
