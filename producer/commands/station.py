"""`xraycam receive` and `station`: a node of a DICOM network that explains what it is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_OPTIONS = (
    click.option("--port", type=click.IntRange(1, 65535), default=11112, show_default=True,
                 help="Port to listen to."),
    click.option("--address", default="127.0.0.1", show_default=True,
                 help="Address to listen to; 0.0.0.0 for all of this machine."),
    click.option("--aet", default="XRAYCAM", show_default=True, help="Our application entity title."),
    click.option("--from", "callers", multiple=True, metavar="AET",
                 help="Title of a caller that is let in; repeatable. Needed where other machines can call."),
    click.option("--quiet", type=click.FloatRange(0.5, 86400), default=30.0, show_default=True,
                 help="Seconds without a new image after which a study is explained."),
    click.option("--model", help="Model version to use; without it, whichever is current."),
    click.option("--gpus", default="all", show_default=True, help="GPUs to use: all, none, or numbers: 0,1."),
)  # fmt: skip


def _station_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command("receive")
@_station_options
def receive_command(**given: Any) -> None:
    """Receive radiographs by C-STORE; a study that has been quiet becomes a run.

    An image is acknowledged when it is on the disk. Runs until Ctrl-C; started again, it takes up what was
    not explained. With XRAYCAM_DICOM_TLS_CERTIFICATE the connections are encrypted.

    \b
    Example:
      xraycam receive --port 11112 --address 0.0.0.0 --from PACS
    """
    _serve(given, None)


@click.command("station")
@_station_options
@click.option(
    "--output",
    required=True,
    metavar="FOLDER|URL",
    help="Where results go: dicom://AET@HOST:PORT, dicomweb+https://HOST/dicom-web, or a folder.",
)
def station_command(output: str, **given: Any) -> None:
    """Receive radiographs by C-STORE, explain them, and send captures and reports back.

    Results that come back to it are refused: they never become sources. docs/pacs.md tells how a PACS sends
    to it.

    \b
    Example:
      xraycam station --address 0.0.0.0 --from PACS --output dicom://PACS@pacs.example:104
    """
    _serve(given, output)


def _serve(given: dict[str, Any], output: str | None) -> None:
    from producer.cli import INTERRUPTED
    from producer.enqueue import Request
    from producer.pacs.receiver import Receiver
    from producer.pacs.station import Station
    from producer.pacs.store_target import AE_TITLE
    from producer.pacs.targets import open_target
    from producer.session import open_session
    from worker.supervisor.devices import devices_for

    for title in (given["aet"], *given["callers"]):
        if not AE_TITLE.fullmatch(title):
            raise click.UsageError(f"{title!a} is no application entity title: 1 to 16 ASCII letters.")
    if not given["callers"] and given["address"] not in ("127.0.0.1", "::1", "localhost"):
        raise click.UsageError("Name with --from who may send from other machines.")
    session = open_session()
    devices_for(given["gpus"])
    if session.settings.broker is not None:
        session.require_broker()
    if output is not None:
        open_target(output, session.settings).close()
    receiver = Receiver(session.settings, given["port"], given["aet"], given["callers"], given["address"])
    request = Request(Path(), model=given["model"])
    session.tell(f"{given['aet']} listens on {given['address']}:{given['port']}; Ctrl-C ends it")
    try:
        Station(session, receiver, request, given["quiet"], output).serve(given["gpus"])
    except KeyboardInterrupt:
        counts = ", ".join(f"{count} {what}" for what, count in receiver.counts.items()) or "nothing received"
        click.echo(f"stopped; {counts}", err=True)
        raise SystemExit(INTERRUPTED) from None
