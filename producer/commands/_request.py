"""The options by which `run` and `enqueue` say what is to be explained, and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from producer.enqueue import Enqueued, Request
    from producer.session import Session

COLORMAPS = ("inferno", "magma", "viridis", "cividis", "turbo", "gray", "blue-red")
METHODS = ("gradcam", "gradcam++", "hirescam", "layercam", "xgradcam", "eigencam", "scorecam")
AUTO = "auto"
FORMATS = ("jpeg", "png", "webp")

_OPTIONS = (
    click.argument("folder", type=click.Path(path_type=Path)),
    click.option("--layer", "layers", multiple=True, default=(AUTO,), show_default=True,
                 help="Layer to explain; repeat for a strip of several. 'auto': the one measured best for "
                 "the model."),
    click.option("--method", "methods", multiple=True, type=click.Choice((AUTO, *METHODS)), default=(AUTO,),
                 show_default=True, help="Class activation map method; repeatable like --layer. 'auto': the "
                 "one measured best for the model."),
    click.option("--target", default="predicted", show_default=True,
                 help="Class whose score is explained: 'predicted', 'all' for a map of each, or a class by "
                 "name."),
    click.option("--masks", type=click.Path(path_type=Path),
                 help="Marked areas, lungs or lesions: a folder of masks named as the images, or a JSON "
                 "file; the share of heat inside goes into the results."),
    click.option("--colormap", type=click.Choice(COLORMAPS), default="inferno", show_default=True,
                 help="Colours of the heatmap; 'blue-red' as in the reference script."),
    click.option("--opacity", type=click.FloatRange(0, 1), default=0.5, show_default=True,
                 help="Share of colour where the heatmap is hottest."),
    click.option("--output-format", type=click.Choice(FORMATS), default="jpeg", show_default=True,
                 help="File format of the overlays."),
    click.option("--heatmaps", is_flag=True, help="Keep the raw heatmaps (.npz) beside the overlays."),
    click.option("--model", help="Model version to use; without it, whichever is current."),
    click.option("--glob", "globs", multiple=True,
                 help="Only files that match, such as '*.png'; repeatable."),
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
    options = ExplainOptions(
        layers=() if given["layers"] == (AUTO,) else given["layers"],
        methods=() if given["methods"] == (AUTO,) else given["methods"],
        target=given["target"],
        colormap=given["colormap"],
        opacity=given["opacity"],
        output_format=given["output_format"],
        heatmaps=given["heatmaps"],
        masks=None if masks is None else str(masks.expanduser().absolute()),
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
    report_left_out(counts.__dict__, counts.examples)


def report_enqueued(enqueued: Enqueued) -> None:
    """Say on standard error what was taken in and what was left out."""
    taken, run = enqueued.taken, enqueued.run
    words = [f"{taken.new} new"]
    if not enqueued.is_new:
        words += [
            f"{taken.unchanged} known already",
            f"{taken.changed} changed",
            f"{taken.repeated} to retry",
        ]
    what = "run" if enqueued.is_new else "continues run"
    click.echo(f"{what} {run.id}: {enqueued.scanned.found} images, {', '.join(words)}", err=True)
    report_left_out(enqueued.scanned.__dict__, enqueued.scanned.examples)


def report_left_out(counts: dict[str, Any], examples: dict[str, str]) -> None:
    words = {
        "other_type": "files of other types left out (--glob '*' takes them all)",
        "links_outside": "links that lead outside the folder left out",
        "names_not_utf8": "files left out whose name is not UTF-8, and as text that of another (rename them)",
        "unreadable_folders": "folders left out that cannot be read (check their permissions)",
    }
    for kind, text in words.items():
        if counts[kind]:
            click.echo(f"{counts[kind]} {text}, such as {examples[kind]}", err=True)
