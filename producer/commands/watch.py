"""`xraycam watch`: how far a run is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from producer.session import Session


@click.command("watch")
@click.argument("run", type=int, required=False)
@click.option("--training", type=int, metavar="ID", help="Watch this training instead of a run.")
@click.option("--once", is_flag=True, help="Print one line and end, rather than wait.")
def command(run: int | None, training: int | None, once: bool) -> None:
    """Show the progress of RUN (or of the latest run) until it is complete.

    Reads the ledger, and asks the broker whether messages wait. Ctrl-C ends the watching, not the run.

    \b
    Examples:
      xraycam watch 3 --once
      xraycam watch --training 2
    """
    from db import runs
    from db.runs import CANCELLED, SCANNING, get_run
    from db.workers import list_workers
    from producer.exit_status import SOME_FAILED
    from producer.outlook import outlook
    from producer.progress import ProgressDisplay, explaining_workers
    from producer.session import open_session
    from producer.waiting import wait_for_run

    session = open_session()
    if training is not None:
        if run is not None:
            raise click.UsageError("Give a RUN or --training, not both.")
        raise SystemExit(_watch_training(session, training, once))
    watched = session.run(run)
    if once:
        found = runs.progress(session.ledger, watched.id)
    else:

        def look(found: runs.Progress, workers: int) -> str | None:
            return outlook(session, watched.id, found, workers)

        with ProgressDisplay(session.err, session.ledger, watched, look) as display:
            found = wait_for_run(display, session.ledger, watched, lambda: None)
    state = get_run(session.ledger, watched.id).state
    if state == SCANNING:
        ended = "being scanned"
    else:
        ended = "complete" if found.is_complete else "cancelled" if state == CANCELLED else "going on"
    click.echo(f"run {watched.id}: {ended}, {found.done} of {found.images} done, {found.failed} failed")
    for reason, count in runs.failures_by_reason(session.ledger, watched.id).items():
        click.echo(f"  {count} {reason}")
    if found.lost_leases:
        click.echo(f"  {found.lost_leases} leases lost, and their chunks done again")
    if not found.is_complete:
        live = [worker for worker in list_workers(session.ledger) if worker.is_live]
        workers = explaining_workers(live)
        click.echo(f"  {workers} workers live")
        for fault in dict.fromkeys(worker.fault for worker in live if worker.fault):
            click.echo(f"  {fault}")
        if (line := outlook(session, watched.id, found, workers)) is not None:
            click.echo(f"  {line}")
    if found.failed:
        raise SystemExit(SOME_FAILED)


def _watch_training(session: Session, number: int, once: bool) -> int:
    from db.trainings import get_training
    from producer.train_display import TrainingDisplay, report_training, wait_for_training

    training = get_training(session.ledger, number)
    if not once and not training.has_ended:
        with TrainingDisplay(session.err, session.ledger, number) as display:
            training = wait_for_training(display)
    return report_training(session, training)
