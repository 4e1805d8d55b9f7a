"""`xraycam run`: the whole job on this machine."""

from __future__ import annotations

from typing import Any

import click

from producer.commands._request import request_from, request_options


@click.command("run")
@request_options
@click.option("--gpus", default="all", show_default=True, help="GPUs to use: all, none, or numbers: 0,1.")
def command(gpus: str, dry_run: bool, **given: Any) -> None:
    """Explain every X-ray of FOLDER: start what is needed, wait, stop it again.

    Needs no servers: a private Valkey server and a SQLite ledger are used unless XRAYCAM_BROKER_URL and
    XRAYCAM_DATABASE_URL name others. The same command again does only what is new or not done.

    \b
    Example:
      xraycam run ./xrays --layer block_15_add --layer out_relu
    """
    from producer.commands._request import report_dry_run, report_enqueued
    from producer.enqueue import enqueue
    from producer.exit_status import INTERRUPTED
    from producer.local_run import run_here
    from producer.session import open_session

    session = open_session()
    request = request_from(given)
    if dry_run:
        report_dry_run(session, request)
        return
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
    raise SystemExit(run_here(session, enqueued.run, gpus))
