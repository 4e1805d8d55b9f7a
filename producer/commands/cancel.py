"""`xraycam cancel`: stop a run."""

from __future__ import annotations

import click


@click.command("cancel")
@click.argument("run", type=int)
def command(run: int) -> None:
    """Stop RUN: workers end the chunk they have in hand and take no other. Results stay.

    \b
    Example:
      xraycam cancel 3
    """
    from db.runs import CANCELLED, progress, set_state
    from producer.session import open_session

    session = open_session()
    chosen = session.run(run)
    set_state(session.ledger, chosen.id, CANCELLED)
    found = progress(session.ledger, chosen.id)
    click.echo(f"run {run} cancelled: {found.pending} images have no result; 'xraycam resume {run}' goes on")
