"""The command `xraycam`. Subcommands are imported when they run, so that `--help` answers at once."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys

import click

# The exit status beside 0 for success and 1 for an internal error.
USAGE_ERROR = 2  # or a server that does not answer; click's own status for a wrong option
SOME_FAILED = 3
INTERRUPTED = 130

# In the order of --help, with the module of `producer/commands` that holds each.
COMMANDS = {
    "run": "run",
    "enqueue": "run",
    "worker": "workers",
    "watch": "runs",
    "runs": "runs",
    "results": "results",
    "report": "report",
    "serve": "serve",
    "export-labels": "serve",
    "recolour": "results",
    "export-dicom": "pacs",
    "receive": "station",
    "station": "station",
    "retry": "runs",
    "resume": "runs",
    "cancel": "runs",
    "train": "train",
    "trainings": "train",
    "evaluate": "dataset",
    "calibrate": "calibrate",
    "preview": "dataset",
    "models": "models",
    "workers": "workers",
    "layers": "maps",
    "compare": "maps",
    "sanity": "maps",
    "doctor": "doctor",
    "migrate": "doctor",
    "samples": "samples",
    "phantoms": "phantoms",
}


# Standard output: disk full, device gone, opened for reading alone.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"producer.commands.{COMMANDS[cmd_name]}")
        command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 all done; 2 wrong use or a server that does not answer; 3 some images failed; "
    "130 interrupted. Settings are environment variables XRAYCAM_*; the README lists them.",
)
@click.version_option(package_name="xraycam")
def cli() -> None:
    """Class activation maps and predictions for folders of chest X-rays, on a task queue.

    Maps show where a model's score came from, not where disease is. For research, not a medical device.

    \b
    Examples:
      xraycam run FOLDER                  everything on this machine, nothing to install
      xraycam enqueue FOLDER              with servers and workers of your own
      xraycam results --class Tuberculosis --min-probability 0.9
    """


def main() -> None:
    """Run the command line; a user's mistake ends in one line, not in a traceback."""
    from db.errors import LedgerError
    from producer.interrupts import note_interrupts
    from worker.errors import XraycamError

    # SIGTERM ends a command as Ctrl-C does: with what it must put away, and the same exit status.
    note_interrupts()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal or file that is not UTF-8 shows escapes for what it cannot hold.
            stream.reconfigure(errors="backslashreplace")
    try:
        status = cli.main(prog_name="xraycam", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; a second complaint at exit is of no use.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except OSError as error:
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        # Of standard output, since files are named in their errors.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        click.echo(f"xraycam: standard output cannot be written: {error.strerror}", err=True)
        status = 2
    except (XraycamError, LedgerError) as error:
        click.echo(f"xraycam: {error}", err=True)
        status = error.exit_status
    sys.exit(status if isinstance(status, int) else 0)
