"""`xraycam worker` and `workers`: run the workers of this machine; see those of all."""

from __future__ import annotations

import os

import click


def _to_settings(_: click.Context, __: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    if value != "auto" and not (value.isascii() and value.isdigit() and 1 <= int(value) <= 512):
        raise click.BadParameter(f"{value!r} is neither 'auto' nor a number from 1 to 512")
    # Before the settings are read, here and by the workers.
    os.environ["XRAYCAM_BATCH_SIZE"] = value


batch_size_option = click.option(
    "--batch-size",
    metavar="N|auto",
    expose_value=False,
    callback=_to_settings,
    help="Images through the network at once, of the workers started here; auto: measured when they start, "
    "for at most 20 s. Otherwise XRAYCAM_BATCH_SIZE.",
)


@click.command("worker")
@click.option(
    "--gpus",
    default="all",
    show_default=True,
    help="GPUs to use: all, none, or numbers: 0,1. One worker for each; one for the CPU without any.",
)
@batch_size_option
@click.option("--queues", default="explain", show_default=True, help="Queues to serve, separated by commas.")
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Answer Prometheus at /metrics on this port: queue, runs, workers, lost leases.",
)
@click.option(
    "--metrics-address",
    default="127.0.0.1",
    show_default=True,
    help="Address to answer on; there is no login, so keep it within a private network.",
)
def worker_command(gpus: str, queues: str, metrics_port: int | None, metrics_address: str) -> None:
    """Run workers until Ctrl-C or SIGTERM: one pinned to each GPU, replaced if it dies.

    Told to stop, a worker finishes its chunk, for at most XRAYCAM_SHUTDOWN_GRACE_PERIOD, or gives it back.

    \b
    Example:
      XRAYCAM_BROKER_URL=redis://broker:6379/0 \\
      XRAYCAM_DATABASE_URL=postgresql+psycopg://user:password@db/xraycam \\
      xraycam worker --gpus all
    """
    import signal

    from producer.session import open_session
    from worker.errors import XraycamError
    from worker.logs import start_logging
    from worker.queue.messages import QUEUES
    from worker.supervisor.devices import devices_for
    from worker.supervisor.supervisor import Supervisor

    wanted = [queue.strip() for queue in queues.split(",") if queue.strip()]
    unknown = [queue for queue in wanted if queue not in QUEUES]
    if unknown or not wanted:
        raise XraycamError(f"--queues {queues}: the queues are {', '.join(QUEUES)}")
    session = open_session()
    session.require_broker()
    start_logging(session.settings)
    launcher = Supervisor(session.settings, session.ledger, devices_for(gpus), wanted)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: launcher.request_stop())
    if metrics_port is not None:
        from worker.supervisor.metrics import serve_metrics

        serve_metrics(session.settings, lambda: launcher.restarts, metrics_address, metrics_port)
    launcher.start()
    names = ", ".join(node.name for node in launcher.nodes)
    click.echo(f"workers: {names}; Ctrl-C stops them", err=True)
    launcher.run_until_stopped()


@click.command("workers")
@click.option("--stop-warm", is_flag=True, help="End those that 'run --keep-warm' left on this machine.")
def workers_command(stop_warm: bool) -> None:
    """List the workers: where, on what, doing what, with which model; outdated models and errors.

    \b
    Examples:
      xraycam workers
      xraycam workers --stop-warm
    """
    if stop_warm:
        _stop_warm()
        return
    from db.models import current_model
    from producer.known_workers import known_workers
    from producer.session import open_session
    from producer.tables import Column, Table

    session = open_session()
    current = session.ledger.query(current_model)
    columns = (
        Column("worker", breaks=True),
        Column("host", 5, breaks=True),
        Column("device", 3),
        Column("queue", 4),
        Column("state", least=12),
        Column("activity", 2),
        Column("model", 1, breaks=True),
        Column("error", 2, least=24, breaks=True),
    )
    table = Table(columns)
    for worker in known_workers(session.ledger):
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
            "live" if worker.is_live else f"ended, or silent since {worker.last_heartbeat_at:%H:%M:%S} UTC",
            worker.activity or "",
            (worker.model_version or "") + (f" (current is {current.version})" if lags and current else ""),
            worker.last_error or "",
        )
    table.print(session.out)
    from producer.warm_workers import warm_status

    warm = warm_status(session.settings)
    if warm is not None:
        names = ", ".join(warm.workers)
        if warm.run is None:
            session.tell(f"kept warm until {warm.until:%H:%M:%S}: {names}; --stop-warm ends them")
        else:
            session.tell(f"kept warm, and used by run {warm.run}: {names}")


def _stop_warm() -> None:
    from producer.warm_workers import stop_warm
    from worker.settings import load_settings

    found = stop_warm(load_settings())
    if found is None:
        click.echo("no workers are kept warm for this home on this machine", err=True)
    elif found.run is not None:
        click.echo(f"the warm workers end after run {found.run}", err=True)
    else:
        click.echo(f"the warm workers were ended: {', '.join(found.workers)}", err=True)
