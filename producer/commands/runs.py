"""`xraycam runs`, `watch`, `resume`, `retry`, `cancel`: runs that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.counted_words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.runs import Run
    from producer.session import Session


@click.group("runs", invoke_without_command=True)
@click.option(
    "--limit", type=click.IntRange(1, 10**9), default=20, show_default=True, help="How many to list."
)
@click.pass_context
def runs_command(ctx: click.Context, limit: int) -> None:
    """List the runs, newest first; delete one.

    \b
    Examples:
      xraycam runs --limit 5
      xraycam runs delete 3
    """
    if ctx.invoked_subcommand is None:
        _list(limit)


@runs_command.command("delete")
@click.argument("run", type=int)
@click.option("--overlays", is_flag=True, help="Delete its overlays, heatmaps and table, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(run: int, overlays: bool, yes: bool) -> None:
    """Delete RUN and its results from the ledger. Images are never touched.

    Refused while a worker holds a chunk of it. Says what will be deleted, and asks.
    """
    from producer.deletion import delete_run_of
    from producer.session import open_session

    delete_run_of(open_session(), run, overlays=overlays, yes=yes)


def _list(limit: int) -> None:
    from db.runs import list_runs, progress, shown_state
    from producer.session import open_session
    from producer.tables import Column, Table

    session = open_session()
    columns = (
        Column("run", right=True),
        Column("folder", breaks=True),
        Column("state"),
        Column("images", 1, right=True),
        Column("done", right=True),
        Column("failed", right=True),
        Column("model", 3, breaks=True),
        Column("layers", 4, breaks=True),
        Column("started (UTC)", 2),
    )
    table = Table(columns)
    for run in session.ledger.query(list_runs, limit):
        found = session.ledger.query(progress, run.id)
        table.add_row(
            str(run.id),
            run.asked,
            shown_state(run, found),
            str(found.images),
            str(found.done),
            str(found.failed),
            run.pinned_model or "current",
            ", ".join(run.options.get("layers", [])) or "default",
            f"{run.created_at:%Y-%m-%d %H:%M}",
        )
    table.print(session.out)


@click.command("watch")
@click.argument("run", type=int, required=False)
@click.option("--training", type=int, metavar="ID", help="Watch this training instead of a run.")
@click.option("--once", is_flag=True, help="Print one line and end, rather than wait.")
def watch_command(run: int | None, training: int | None, once: bool) -> None:
    """Show the progress of RUN (or of the latest run) until it is complete.

    Reads the ledger, and asks the broker whether messages wait. Ctrl-C ends the watching, not the run.

    \b
    Examples:
      xraycam watch 3 --once
      xraycam watch --training 2
    """
    from producer.session import open_session

    session = open_session()
    if training is not None:
        if run is not None:
            raise click.UsageError("Give a RUN or --training, not both.")
        raise SystemExit(_watch_training(session, training, once))
    from producer.run_summary import watch_run

    raise SystemExit(watch_run(session, session.run(run), once=once))


def _watch_training(session: Session, number: int, once: bool) -> int:
    from db.trainings import get_training
    from producer.training_progress import TrainingDisplay, report_training, wait_for_training

    training = session.ledger.query(get_training, number)
    if not once and not training.has_ended:
        with TrainingDisplay(session.err, session.ledger, number) as display:
            training = wait_for_training(display)
    return report_training(session, training)


@click.command("resume")
@click.argument("run", type=int, required=False)
def resume_command(run: int | None) -> None:
    """Enqueue whatever has no result in RUN, or in the latest unfinished run; a cancelled run is reopened.

    With a broker configured the messages are sent and the command ends; without one, the work is done
    here. Doing it twice does no harm.

    \b
    Example:
      xraycam resume 3
    """
    from db.runs import CANCELLED, OPEN, SCANNING, STOPPED, require_scanned, set_state
    from producer.commands.run import send_or_run_here
    from producer.session import open_session

    session = open_session()
    if run is None:
        chosen = _latest(session, (OPEN, STOPPED, CANCELLED, SCANNING), "unfinished")
        click.echo(f"run {chosen.id}: {chosen.asked}", err=True)
    else:
        chosen = session.run(run)
    require_scanned(chosen)
    _require_pinned_model(session, chosen)
    _require_same_masks(chosen)
    session.ledger.write(set_state, chosen.id, OPEN)
    raise SystemExit(send_or_run_here(session, chosen))


@click.command("retry")
@click.argument("run", type=int, required=False)
@click.option("--reason", "reasons", multiple=True, help="Only what failed for this reason; repeatable.")
def retry_command(run: int | None, reasons: tuple[str, ...]) -> None:
    """Retry the failed images of RUN, or of the latest run, once their files or their worker are repaired.

    \b
    Example:
      xraycam retry 3 --reason missing --reason write-failed
    """
    from db.ingest import requeue_failed
    from db.runs import failures_by_reason, progress
    from producer.commands.run import send_or_run_here
    from producer.session import open_session

    session = open_session()
    chosen = session.run(run)
    _require_pinned_model(session, chosen)
    _require_same_masks(chosen)
    count = session.ledger.write(requeue_failed, chosen, reasons)
    if not count:
        found = session.ledger.query(failures_by_reason, chosen.id)
        known = ", ".join(f"{reason} ({number})" for reason, number in found.items()) or "none"
        click.echo(f"nothing to retry in run {chosen.id}; failed in it: {known}", err=True)
        return
    others = session.ledger.query(progress, chosen.id).pending - count
    also = f", and {counted(others, 'image')} that had no result yet" if others > 0 else ""
    click.echo(f"run {chosen.id}: {counted(count, 'image')} to retry{also}", err=True)
    raise SystemExit(send_or_run_here(session, chosen))


@click.command("cancel")
@click.argument("run", type=int, required=False)
@click.option("--training", type=int, metavar="ID", help="Stop this training instead of a run.")
def cancel_command(run: int | None, training: int | None) -> None:
    """Stop RUN, or the latest open run: workers finish their chunk and take no other. Results stay.

    A training stops after its current batch and publishes nothing; it can be resumed from its last epoch.

    \b
    Examples:
      xraycam cancel
      xraycam cancel 3
      xraycam cancel --training 2
    """
    from db.runs import CANCELLED, OPEN, SCANNING, progress, set_state
    from producer.session import open_session

    if run is not None and training is not None:
        raise click.UsageError("Give a RUN or --training, not both.")
    session = open_session()
    if training is not None:
        raise SystemExit(_cancel_training(session, training))
    chosen = session.run(run) if run is not None else _latest(session, (OPEN, SCANNING), "open")
    found = session.ledger.query(progress, chosen.id)
    if found.is_complete and chosen.state != SCANNING:
        click.echo(
            f"run {chosen.id} is complete: {found.done} done, {found.failed} failed; nothing to cancel"
        )
        return
    session.ledger.write(set_state, chosen.id, CANCELLED)
    found = session.ledger.query(progress, chosen.id)
    click.echo(
        f"run {chosen.id} ({chosen.asked}) cancelled: {counted(found.pending, 'image')} without a result; "
        f"'xraycam resume {chosen.id}' continues it"
    )


def _require_pinned_model(session: Session, run: Run) -> None:
    """Raises XraycamError where the run is not done and to be explained by a version that was deleted."""
    from db.errors import ModelNotFound
    from db.models import get_model
    from db.runs import progress
    from worker.errors import XraycamError

    found = session.ledger.query(progress, run.id)
    if run.pinned_model is None or found.done == found.images:
        return
    try:
        session.ledger.query(get_model, run.pinned_model)
    except ModelNotFound as error:
        raise XraycamError(
            f"run {run.id} is to be explained by model {run.pinned_model}, which was deleted; import that "
            "again, or begin another run with --model VERSION"
        ) from error


def _require_same_masks(run: Run) -> None:
    """Raises XraycamError where masks have changed since a run began: half of it would be of other areas."""
    from pathlib import Path

    from worker.errors import XraycamError

    if (source := run.options.get("masks")) is None:
        return
    from worker.images.masks import load_masks, require_masks_of_run

    try:
        found = load_masks(Path(source))
    except XraycamError:
        return  # the workers may see what this machine does not
    require_masks_of_run(found, run.options.get("masks_digest"))


def _latest(session: Session, states: Sequence[str], what: str) -> Run:
    from db.runs import latest_unfinished
    from worker.errors import XraycamError

    with session.ledger.read() as connection:
        found = latest_unfinished(connection, states)
    if found is None:
        raise XraycamError(f"no run is {what}; 'xraycam runs' lists them all")
    return found


def _cancel_training(session: Session, number: int) -> int:
    from db.trainings import CANCELLED, cancel_training
    from producer.cli import SOME_FAILED

    training = session.ledger.write(cancel_training, number)
    if training.state == CANCELLED:
        click.echo(f"training {number} cancelled; 'xraycam train --resume {number}' continues it")
        return 0
    why = "its model is being published" if not training.has_ended else f"it is {training.state}"
    click.echo(f"training {number} is not cancelled: {why}", err=True)
    return SOME_FAILED
