"""`xraycam workers`: who works."""

from __future__ import annotations

import click


@click.command("workers")
def command() -> None:
    """List the workers: where, on what, doing what, with which model; which lag, and what ails them.

    \b
    Example:
      xraycam workers
    """
    from rich.table import Table

    from db.models import current_model
    from db.workers import list_workers
    from producer.session import open_session

    session = open_session()
    current = current_model(session.ledger)
    table = Table()
    for name in ("worker", "host", "device", "queue", "state", "doing", "model", "fault"):
        table.add_column(name, overflow="fold")
    for worker in list_workers(session.ledger):
        lags = (
            worker.model_version is not None
            and current is not None
            and worker.model_version != current.version
        )
        table.add_row(
            worker.name,
            worker.host,
            worker.device,
            worker.queues,
            "live" if worker.is_live else f"silent since {worker.seen_at:%H:%M:%S} UTC",
            worker.doing or "",
            (worker.model_version or "") + (f" (current is {current.version})" if lags and current else ""),
            worker.fault or "",
        )
    session.out.print(table)
