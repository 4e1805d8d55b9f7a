"""`xraycam serve` and `export-labels`: a page to look through and review runs, and what the reviews say."""

from __future__ import annotations

from pathlib import Path

import click

from producer.places import LocalPath


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Bind address.")
@click.option("--port", type=click.IntRange(1, 65535), default=8765, show_default=True, help="Bind port.")
@click.option(
    "--reader",
    "readers",
    multiple=True,
    help="Name of a reader, who gets an address of his or her own; repeatable. Default: your user name.",
)
@click.option(
    "--behind-proxy",
    "header",
    metavar="HEADER",
    help="Take the reader's name from this header, set by a proxy with a login, in place of tokens.",
)
@click.option(
    "--proxy-address",
    "proxies",
    multiple=True,
    default=("127.0.0.1", "::1"),
    show_default=True,
    help="Address the proxy connects from; repeatable.",
)
@click.option(
    "--allow-host", "hosts", multiple=True, help="Further value of the Host header to answer; repeatable."
)
def serve_command(
    host: str, port: int, readers: tuple[str, ...], header: str | None, proxies: tuple[str, ...],
    hosts: tuple[str, ...],
) -> None:  # fmt: skip
    """Serve pages to look through runs and to review them, on this machine until Ctrl-C.

    \b
    Examples:
      xraycam serve
      xraycam serve --reader first --reader second
    """
    import getpass
    import secrets

    import uvicorn

    from producer.session import open_session
    from producer.viewer.app import make_app
    from producer.viewer.security import LONGEST_READER, Access
    from worker.errors import XraycamError

    session = open_session()
    names = readers or (() if header else (getpass.getuser(),))
    if header and readers:
        raise click.UsageError("With --behind-proxy the proxy names the readers: leave out --reader.")
    for name in names:
        if not name.strip() or len(name) > LONGEST_READER or not name.isprintable():
            raise click.UsageError(
                f"--reader {name!r}: a name is 1 to {LONGEST_READER} printable characters."
            )
    shown = f"[{host}]" if ":" in host else host
    known = {
        shown,
        *(("localhost", "127.0.0.1", "[::1]") if host in ("127.0.0.1", "::1", "localhost") else ()),
    }
    access = Access(
        hosts=frozenset(f"{name}:{port}".lower() for name in known) | {name.lower() for name in hosts},
        cookie=f"xraycam-{port}",
        secret=secrets.token_bytes(32),
        tokens={name: secrets.token_urlsafe(24) for name in names},
        header=header.lower() if header else None,
        proxies=frozenset(proxies),
    )
    for name, token in access.tokens.items():
        session.out.print(f"{name}: http://{shown}:{port}/?token={token}", soft_wrap=True)
    if header:
        session.out.print(f"http://{shown}:{port}/ answers the proxy alone", soft_wrap=True)
    # No log of requests: addresses hold tokens.
    config = uvicorn.Config(
        make_app(session, access), host=host, port=port, log_level="warning", access_log=False,
        proxy_headers=False, server_header=False, timeout_graceful_shutdown=3,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run()
    except OSError as error:
        raise XraycamError(
            f"{shown}:{port} cannot be served: {error.strerror}; choose another --port"
        ) from error


@click.command("export-labels")
@click.argument("run", type=int, required=False)
@click.option(
    "--output",
    type=LocalPath(path_type=Path),
    required=True,
    help="A new folder, with a sub-folder of links for each class; or a file .csv.",
)
@click.option("--reader", help="Only what this reader said.")
@click.option("--copy", is_flag=True, help="Copy the images, rather than link to them.")
def export_labels_command(run: int | None, output: Path, reader: str | None, copy: bool) -> None:
    """Write the reviewed images of RUN, or of the latest run, as a folder that `train` takes.

    Images about which readers disagree, or are unsure, are left out and counted.

    \b
    Examples:
      xraycam export-labels 3 --output ./reviewed
      xraycam export-labels 3 --output labels.csv
    """
    from producer.session import open_session
    from producer.viewer.labels import export_labels

    session = open_session()
    for line in export_labels(session, session.run(run), output, reader=reader, copy=copy):
        session.out.print(line, soft_wrap=True)
