"""`xraycam enqueue`: hand a folder to workers that run elsewhere."""

from __future__ import annotations

from typing import Any

import click

from producer.commands._request import request_from, request_options


@click.command("enqueue")
@request_options
def command(dry_run: bool, **given: Any) -> None:
    """Enqueue every X-ray of FOLDER for the workers, and print the run's number.

    Needs XRAYCAM_BROKER_URL. The workers must see the folder under the same path.

    \b
    Example:
      xraycam watch $(xraycam enqueue /archive/xrays)
    """
    from db import runs
    from producer.commands._request import report_dry_run, report_enqueued
    from producer.enqueue import enqueue
    from producer.exit_status import INTERRUPTED
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
