"""Bringing a run to its end on this machine, and telling how it ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.table import Table

from db import runs
from db.query import Filter
from db.runs import Run
from producer.exit_status import INTERRUPTED, SOME_FAILED
from producer.fleet import local_fleet
from producer.formats import write_csv
from producer.heat_report import map_report
from producer.progress import ProgressDisplay
from producer.session import Session
from producer.waiting import LocalOverseer, wait_for_run


def run_here(session: Session, run: Run, gpus: str = "all") -> int:
    """Start workers, wait until the run is complete, stop them, print a summary; the exit status."""
    if not runs.progress(session.ledger, run.id).is_complete:
        try:
            with stopped_once(), local_fleet(session.settings, session.ledger, gpus) as fleet:
                overseer = LocalOverseer(fleet, session.ledger, run)
                with ProgressDisplay(session.err, session.ledger, run) as display:
                    overseer.publish(on_wait=display.update)
                    wait_for_run(display, session.ledger, run, overseer.tick)
        except KeyboardInterrupt:
            found = runs.progress(session.ledger, run.id)
            session.err.print(
                f"stopped: {found.done + found.failed} of {found.images} images have a result; "
                f"'xraycam resume {run.id}' does the rest"
            )
            return INTERRUPTED
    return summarise(session, run)


def summarise(session: Session, run: Run) -> int:
    """Print how a run ended and where everything is; the exit status."""
    found = runs.progress(session.ledger, run.id)
    csv_file = Path(run.output) / "predictions.csv"
    csv_file.parent.mkdir(parents=True, exist_ok=True)
    with csv_file.open("w", newline="", encoding="utf-8") as stream:
        write_csv(session.ledger, Filter(run=run.id), stream)
    table = Table(title=f"run {run.id}: {found.done} done, {found.failed} failed", title_justify="left")
    table.add_column("result")
    table.add_column("images", justify="right")
    for name, count in runs.classes_found(session.ledger, run.id).items():
        table.add_row(name, str(count))
    for reason, count in runs.failures_by_reason(session.ledger, run.id).items():
        table.add_row(f"failed: {reason}", str(count))
    session.out.print(table)
    for label, place in (
        ("overlays", run.output),
        ("table", csv_file),
        ("ledger", session.ledger),
    ):
        session.out.print(f"{label + ':':<10}{place}", soft_wrap=True, markup=False)
    for line in map_report(session, run):
        session.out.print(line, soft_wrap=True, markup=False)
    if found.failed:
        session.err.print(f"why images failed: xraycam results {run.id} --status failed", soft_wrap=True)
        return SOME_FAILED
    return 0


@contextmanager
def stopped_once() -> Iterator[None]:
    """Let Ctrl-C or SIGTERM stop the block, once: a second one must not break the clean end."""
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if not stopping.is_set():
            stopping.set()
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
