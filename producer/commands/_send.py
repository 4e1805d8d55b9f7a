"""Sending a run's unfinished chunks to the workers, or doing them here where no broker is configured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from db.runs import Run
    from producer.session import Session


def send_or_run_here(session: Session, run: Run) -> int:
    """The exit status."""
    from db import runs
    from producer.exit_status import SOME_FAILED
    from producer.local_run import run_here
    from producer.publish import publish_chunks

    found = runs.progress(session.ledger, run.id)
    if found.is_complete:
        click.echo(f"run {run.id} is complete: {found.done} done, {found.failed} failed", err=True)
        return SOME_FAILED if found.failed else 0
    if session.settings.broker is None:
        return run_here(session, run)
    session.require_broker()
    sent = publish_chunks(session.settings, session.ledger, run, found.chunks)
    click.echo(f"run {run.id}: {found.pending} images in {sent} chunks sent to the workers", err=True)
    return 0
