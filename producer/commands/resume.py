"""`xraycam resume`: go on with a run that was stopped, cancelled, or whose messages were lost."""

from __future__ import annotations

import click


@click.command("resume")
@click.argument("run", type=int)
def command(run: int) -> None:
    """Enqueue again whatever has no result in RUN; a cancelled run is opened again.

    With a broker configured the messages are sent and the command ends; without one, the work is done
    here. Doing it twice does no harm.

    \b
    Example:
      xraycam resume 3
    """
    from db.runs import OPEN, SCANNING, set_state
    from producer.commands._send import send_or_run_here
    from producer.session import open_session
    from worker.errors import XraycamError

    session = open_session()
    chosen = session.run(run)
    if chosen.state == SCANNING:
        raise XraycamError(
            f"run {run} does not know all its files: {chosen.root} is being scanned, or was not scanned to "
            f"the end; 'xraycam run {chosen.root}' or 'enqueue' with the same options goes on with it"
        )
    set_state(session.ledger, chosen.id, OPEN)
    raise SystemExit(send_or_run_here(session, chosen))
