"""`xraycam migrate`: bring the database up to date."""

from __future__ import annotations

import click


@click.command("migrate")
def command() -> None:
    """Make or update the tables of XRAYCAM_DATABASE_URL. Every command does so by itself; this one only that.

    \b
    Example:
      xraycam migrate
    """
    from db.migrate import HEAD
    from producer.session import open_session

    session = open_session()
    click.echo(f"{session.ledger} has schema {HEAD}")
