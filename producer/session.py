"""What most commands need: settings, an open ledger, a place to write to."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console

from db.ledger import Ledger
from db.migrate import migrate
from db.models import Model, get_model
from db.runs import Run, get_run, latest_run
from producer.wrapped_text import print_wrapped
from worker.errors import XraycamError
from worker.file_names import has_image_extension, printable
from worker.folder_walk import WalkCounts, walk
from worker.our_folders import OUTPUT_MARKER
from worker.queue.broker import require_broker
from worker.remote.urls import refuse_url
from worker.settings import Settings, load_settings

# A person waits at the command line: better a clear word soon than a long silence.
RETRY_TIMEOUT = 5.0
LONG_RETRY_TIMEOUT = 60.0


@dataclass(frozen=True)
class Session:
    settings: Settings
    ledger: Ledger
    out: Console
    err: Console

    def tell(self, text: str) -> None:
        """Say something to whoever waits, beside the command's output."""
        print_wrapped(self.err, text)

    def say(self, text: str) -> None:
        """A line of the command's output."""
        print_wrapped(self.out, text)

    def run(self, number: int | None) -> Run:
        """The run that was named, or the latest. Raises RunNotFound."""
        return self.ledger.query(latest_run) if number is None else self.ledger.query(get_run, number)

    def model(self, version: str | None) -> Model:
        """The model of this version, or the current one. Raises ModelNotFound."""
        # Most commands need no model, and answer sooner without.
        from worker.model.store import ensure_current_model, store_of

        current = ensure_current_model(self.ledger, store_of(self.settings))
        return current if version is None else self.ledger.query(get_model, version)

    def require_broker(self) -> str:
        """The broker's URL. Raises XraycamError where none is configured or it does not answer."""
        if self.settings.broker is None:
            raise XraycamError(
                "no broker is configured: set XRAYCAM_BROKER_URL=redis://HOST:6379/0, or use "
                "'xraycam run', which starts what it needs on this machine"
            )
        require_broker(self.settings.broker)
        return self.settings.broker


def open_session() -> Session:
    """Load the settings and open the ledger, made or brought up to date if needed."""
    settings = load_settings()
    settings.apply_umask()
    ledger = Ledger(settings.database, retry_timeout=RETRY_TIMEOUT)
    # Once it has answered, a restart of the database is worth waiting for.
    if ledger.engine.dialect.name != "sqlite":
        with ledger.read():
            ledger.retry_timeout = LONG_RETRY_TIMEOUT
    migrate(ledger)
    ledger.retry_timeout = LONG_RETRY_TIMEOUT
    # Modules stay until the end, where looking through them all takes as long as a query.
    gc.freeze()
    return Session(settings, ledger, _console(sys.stdout), _console(sys.stderr))


def check_output_dir(given: Path) -> Path:
    """The folder, absolute, not made. Raises XraycamError when it could not be, or not be written to."""
    refuse_url(given)
    folder = given.expanduser().absolute()
    present = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not present.is_dir():
        raise XraycamError(
            f"{given} cannot be made a folder for output: {present} is no folder; name another place"
        )
    if not os.access(present, os.W_OK | os.X_OK):
        raise XraycamError(f"{given} cannot be written to; name another place, or change its permissions")
    return folder


@contextmanager
def output_dir(given: Path) -> Iterator[Path]:
    """The folder, as `ensure_output_dir` makes it; where the block ends in an error, folders that were made
    for it are removed again if nothing is in them. It is marked, so that pictures written there are not taken
    for radiographs. Raises XraycamError where it holds radiographs, beside which they could not be told."""
    refuse_url(given)
    folder = given.expanduser().absolute()
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    marker = folder / OUTPUT_MARKER
    try:
        ensure_output_dir(given)
        is_marked = marker.exists()
        if not is_marked:
            _refuse_radiographs(given, folder)
            marker.write_text("{}\n", encoding="utf-8")
        try:
            yield folder
        except BaseException:
            if not is_marked and list(folder.iterdir()) == [marker]:
                marker.unlink()
            raise
    except BaseException:
        for place in made:
            with suppress(OSError):
                place.rmdir()
        raise


def _refuse_radiographs(given: Path, folder: Path) -> None:
    images = (found.path for found in walk(folder, WalkCounts()) if has_image_extension(found.path))
    first = next(images, None)
    if first is not None:
        raise XraycamError(
            f"{printable(given)} holds images, such as {printable(first)}, and what is written beside them "
            "would be taken for radiographs; name a new folder"
        )


def ensure_output_dir(given: Path) -> Path:
    """The folder, absolute, made if need be. Raises XraycamError when nothing can be written there."""
    refuse_url(given)
    folder = given.expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise XraycamError(
            f"{given} cannot be made a folder for output: {error.strerror}; name another place"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise XraycamError(f"{given} cannot be written to; name another place, or change its permissions")
    return folder


def ensure_output_file(given: Path) -> Path:
    """The file, absolute, its folder made if need be. Raises XraycamError when it cannot be written."""
    refuse_url(given, "name a file")
    file = given.expanduser().absolute()
    ensure_output_dir(file.parent)
    if file.is_dir() or (file.exists() and not os.access(file, os.W_OK)):
        raise XraycamError(f"{given} cannot be written; name another file")
    return file


def _console(stream: TextIO) -> Console:
    # Names of files and classes are text, whatever brackets they hold.
    # What is not a terminal has no width of its own; folding a path at 80 columns helps nobody.
    return Console(file=stream, highlight=False, markup=False, width=None if stream.isatty() else 200)
