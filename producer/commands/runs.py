"""`xraycam runs`: what was asked for."""

from __future__ import annotations

import click


@click.command("runs")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many to list.")
def command(limit: int) -> None:
    """List the runs, newest first.

    \b
    Example:
      xraycam runs --limit 5
    """
    from rich.table import Table

    from db.runs import list_runs, progress
    from producer.session import open_session

    session = open_session()
    table = Table()
    for name, justify in (
        ("run", "right"), ("folder", "left"), ("state", "left"), ("images", "right"), ("done", "right"),
        ("failed", "right"), ("model", "left"), ("layers", "left"), ("started", "left"),
    ):  # fmt: skip
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type] # a literal above
    for run in list_runs(session.ledger, limit):
        found = progress(session.ledger, run.id)
        state = "complete" if run.state == "open" and found.is_complete else run.state
        table.add_row(
            str(run.id),
            run.root,
            state,
            str(found.images),
            str(found.done),
            str(found.failed),
            run.pinned_model or "current",
            ", ".join(run.options.get("layers", [])) or "default",
            f"{run.created_at:%Y-%m-%d %H:%M}",
        )
    session.out.print(table)
