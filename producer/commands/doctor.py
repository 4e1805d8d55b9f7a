"""`xraycam doctor`: what is configured, and whether it answers."""

from __future__ import annotations

import click


@click.command("doctor")
def command() -> None:
    """Check settings, database, broker, model store, GPUs and workers; say how to mend what is wrong.

    Ends with status 2 when something does not work.

    \b
    Example:
      xraycam doctor
    """
    from producer.checkup import check_everything
    from worker.settings import load_settings

    marks = {True: click.style("ok   ", fg="green"), False: click.style("wrong", fg="red"), None: "     "}
    wrong = False
    settings = load_settings()
    settings.make_private()
    for check in check_everything(settings):
        click.echo(f"{marks[check.fine]} {check.name:<12} {check.finding}")
        wrong = wrong or check.fine is False
    if wrong:
        raise SystemExit(2)
