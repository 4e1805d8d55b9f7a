"""`xraycam retry`: another try for what failed."""

from __future__ import annotations

import click


@click.command("retry")
@click.argument("run", type=int)
@click.option("--reason", "reasons", multiple=True, help="Only what failed for this reason; repeatable.")
def command(run: int, reasons: tuple[str, ...]) -> None:
    """Try the failed images of RUN again, after their files or their worker were mended.

    \b
    Example:
      xraycam retry 3 --reason missing --reason write-failed
    """
    from db.intake import return_failed
    from db.runs import failures_by_reason
    from producer.commands._send import send_or_run_here
    from producer.session import open_session

    session = open_session()
    chosen = session.run(run)
    count = return_failed(session.ledger, chosen, reasons)
    if not count:
        found = failures_by_reason(session.ledger, chosen.id)
        known = ", ".join(f"{reason} ({number})" for reason, number in found.items()) or "none"
        click.echo(f"nothing to retry in run {run}; failed in it: {known}", err=True)
        return
    click.echo(f"run {run}: {count} images to be tried again", err=True)
    raise SystemExit(send_or_run_here(session, chosen))
