"""`xraycam trainings`: what was asked to be trained, and what came of it."""

from __future__ import annotations

import click


@click.command("trainings")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many to list.")
def command(limit: int) -> None:
    """List the trainings, newest first.

    \b
    Example:
      xraycam trainings --limit 5
    """
    from rich.table import Table

    from db.trainings import list_trainings
    from producer.session import open_session

    session = open_session()
    table = Table()
    for name in ("training", "dataset", "recipe", "state", "epochs", "AUC", "model", "result", "asked for"):
        table.add_column(
            name, justify="right" if name in ("training", "epochs", "AUC") else "left", overflow="fold"
        )
    for training in list_trainings(session.ledger, limit):
        table.add_row(
            str(training.id),
            training.dataset,
            training.recipe.get("name", ""),
            training.state,
            f"{training.epoch}/{training.epochs}",
            "" if training.val_auc is None else f"{training.val_auc:.3f}",
            training.version or "",
            training.error or training.verdict or "",
            f"{training.created_at:%Y-%m-%d %H:%M}",
        )
    session.out.print(table)
