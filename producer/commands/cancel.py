"""`xraycam cancel`: stop a run, or a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from producer.session import Session


@click.command("cancel")
@click.argument("run", type=int, required=False)
@click.option("--training", type=int, metavar="ID", help="Stop this training instead of a run.")
def command(run: int | None, training: int | None) -> None:
    """Stop RUN: workers end the chunk they have in hand and take no other. Results stay.

    A training stops after the batch in hand and publishes nothing; its last epoch stays to be resumed.

    \b
    Examples:
      xraycam cancel 3
      xraycam cancel --training 2
    """
    from db.runs import CANCELLED, SCANNING, progress, set_state
    from producer.session import open_session

    if (run is None) == (training is None):
        raise click.UsageError("Give a RUN, or --training and its number.")
    session = open_session()
    if training is not None:
        raise SystemExit(_cancel_training(session, training))
    chosen = session.run(run)
    found = progress(session.ledger, chosen.id)
    if found.is_complete and chosen.state != SCANNING:
        click.echo(f"run {run} is complete: {found.done} done, {found.failed} failed; nothing to cancel")
        return
    set_state(session.ledger, chosen.id, CANCELLED)
    found = progress(session.ledger, chosen.id)
    click.echo(f"run {run} cancelled: {found.pending} images have no result; 'xraycam resume {run}' goes on")


def _cancel_training(session: Session, number: int) -> int:
    from db.trainings import CANCELLED, cancel_training
    from producer.exit_status import SOME_FAILED

    training = cancel_training(session.ledger, number)
    if training.state == CANCELLED:
        click.echo(f"training {number} cancelled; 'xraycam train --resume {number}' goes on with it")
        return 0
    why = "its model is being published" if not training.has_ended else f"it is {training.state}"
    click.echo(f"training {number} is not cancelled: {why}", err=True)
    return SOME_FAILED
