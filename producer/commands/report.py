"""`xraycam report`: a run as a folder that opens from disk in any browser."""

from __future__ import annotations

from pathlib import Path

import click

from producer.places import LocalPath


@click.command("report")
@click.argument("run", type=int, required=False)
@click.option("--with", "other", type=int, help="Compare with this run of the same folder, side by side.")
@click.option("--output", type=LocalPath(path_type=Path), help="Folder for the report.")
@click.option(
    "--limit",
    type=click.IntRange(1, 20_000),
    default=20_000,
    show_default=True,
    help="Maximum number of images; failures and the least certain ones come first.",
)
@click.option(
    "--size",
    type=click.IntRange(128, 2048),
    default=512,
    show_default=True,
    help="Longest side of the pictures, in pixels.",
)
def report_command(run: int | None, other: int | None, output: Path | None, limit: int, size: int) -> None:
    """Write RUN, or the latest run, as a folder that opens from disk in any browser.

    \b
    Examples:
      xraycam report
      xraycam report 3 --with 2 --output ./two-models
    """
    from db.runs import get_run
    from producer.session import open_session
    from producer.viewer.progress import make_report
    from producer.viewer.report import ReportOptions, report_folder
    from worker.errors import XraycamError
    from worker.remote.urls import refuse_url

    session = open_session()
    chosen = session.run(run)
    compared = None if other is None else session.ledger.query(get_run, other)
    if compared is not None and compared.id == chosen.id:
        raise XraycamError(f"--with {other}: is the same run; name another, 'xraycam runs' lists them")
    if compared is not None and compared.root != chosen.root:
        raise XraycamError(
            f"--with {other}: run {other} is of {compared.root}, run {chosen.id} of {chosen.root}; only "
            "runs of one folder can be compared"
        )
    if output is not None:
        refuse_url(output, "a report opens from a folder: name one")
    home = session.settings.home
    folder = output.expanduser().absolute() if output else report_folder(home, chosen, compared)
    made = make_report(session, chosen, folder, ReportOptions(limit, size, compared))
    session.out.print(str(made.index), soft_wrap=True, markup=False)
