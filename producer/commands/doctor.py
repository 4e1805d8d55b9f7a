"""`xraycam doctor` and `migrate`: is everything configured, reachable and up to date?"""

from __future__ import annotations

import click


@click.command("doctor")
def doctor_command() -> None:
    """Check settings, database, broker, model store, GPUs and workers; say how to fix what is wrong.

    Ends with status 2 when something does not work.

    \b
    Example:
      xraycam doctor
    """
    from producer.checks import run_checks
    from worker.settings import load_settings

    marks = {True: click.style("ok   ", fg="green"), False: click.style("FAIL ", fg="red"), None: "     "}
    wrong = False
    settings = load_settings()
    settings.apply_umask()
    for check in run_checks(settings):
        click.echo(f"{marks[check.ok]} {check.name:<12} {check.message}")
        wrong = wrong or check.ok is False
    if wrong:
        raise SystemExit(2)


@click.command("migrate")
def migrate_command() -> None:
    """Make or update the tables of XRAYCAM_DATABASE_URL. Every command does so by itself; this one only that.

    \b
    Example:
      xraycam migrate
    """
    from db.migrate import HEAD
    from producer.session import open_session

    session = open_session()
    click.echo(f"{session.ledger} has schema {HEAD}")
