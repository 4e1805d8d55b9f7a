"""How a run ended and where everything is: the same for whoever waited for it."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from db import runs
from db.gone_files import count_gone
from db.grouped_results import count_burned_in
from db.results import Filter, count_findings
from db.runs import CANCELLED, HALTED, SCANNING, get_run
from producer.attribution_report import attribution_report
from producer.cli import INTERRUPTED, SOME_FAILED
from producer.formats import write_csv
from producer.known_workers import live_workers
from producer.progress import ProgressDisplay, inference_workers, stall_reason, wait_for_run
from producer.result_notes import versions_note
from producer.run_findings import findings_of
from producer.tables import Column, Table
from worker.counted_words import counted
from worker.errors import XraycamError
from worker.remote.folder import RemoteFolder, place_of
from worker.safe_files import apply_umask

if TYPE_CHECKING:
    from db.runs import Run
    from producer.session import Session


_TABLE = "predictions.csv"


def summarize(session: Session, run: Run, report: Path | None = None) -> int:
    """Print counts and places of a run, and write its table beside the overlays; the exit status.

    A folder that cannot be written to from this machine is said, and is no error: the run is done.
    """
    found = session.ledger.query(runs.progress, run.id)
    gone = session.ledger.query(count_gone, run.id)
    columns = (Column("result"), Column("images", right=True))
    table = Table(columns, title=f"run {run.id}: {found.done} done, {found.failed} failed")
    findings = findings_of(session, run)
    having = session.ledger.query(count_findings, run.id, findings, gone=False)
    for name, count in having.items():
        table.add_row(f"{name}, at 0.5 or more", str(count))
    for name, count in session.ledger.query(runs.count_by_class, run.id).items():
        if name not in having and count > gone.get(name, 0):
            table.add_row(name, str(count - gone.get(name, 0)))
    for reason, count in session.ledger.query(runs.failures_by_reason, run.id).items():
        table.add_row(f"failed: {reason}", str(count))
    odd = session.ledger.query(runs.count_by_odd_word, run.id, gone=not gone)
    for word, count in odd.items():
        table.add_row(f"odd: {word}", str(count))
    if of_class := sum(count for name, count in gone.items() if name is not None):
        table.add_row("file deleted since (gone_at is set)", str(of_class))
    table.print(session.out)
    if (note := versions_note(session, run)) is not None:
        session.out.print(note, soft_wrap=True, markup=False)
    places = {} if report is None else {"report": str(report)}
    places |= {"overlays": run.output, "table": _write_table(session, run), "ledger": str(session.ledger)}
    for label, place in places.items():
        session.out.print(f"{label + ':':<10}{place}", soft_wrap=True, markup=False)
    for name, count in session.ledger.query(runs.count_by_decision, run.id, gone=not gone).items():
        session.out.print(f"{name}: {counted(count, 'image')}", markup=False)
    from worker.model.run_drift import drift_report
    from worker.model.store import store_of

    drift = drift_report(session.ledger, store_of(session.settings), run)
    for line in (*drift, *attribution_report(session, run)):
        session.out.print(line, soft_wrap=True, markup=False)
    burned_in = session.ledger.query(count_burned_in, run.id)
    if burned_in:
        session.out.print(
            f"{counted(burned_in, 'image')} {'has' if burned_in == 1 else 'have'} text burned in, which may "
            "name the patient; so may the overlay",
            soft_wrap=True,
        )
    if found.failed:
        session.err.print(f"why images failed: xraycam results {run.id} --status failed", soft_wrap=True)
        return SOME_FAILED
    return 0


def _write_table(session: Session, run: Run) -> str:
    """Write `predictions.csv` whole or not at all, since several may watch one run; where it is."""
    folder = place_of(run.output)
    if isinstance(folder, RemoteFolder):
        return _upload_table(session, run, folder)
    file = folder / _TABLE
    unfinished: str | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, unfinished = tempfile.mkstemp(prefix=".predictions.", suffix=".csv", dir=folder)
        with os.fdopen(descriptor, "w", newline="", encoding="utf-8") as stream:
            write_csv(session.ledger, Filter(run=run.id), stream)
        apply_umask(Path(unfinished))
        Path(unfinished).replace(file)
    except OSError as error:
        return (
            f"not written, {folder}: {error.strerror}; 'xraycam results {run.id} --format csv --output FILE' "
            "writes it elsewhere"
        )
    finally:
        if unfinished is not None:
            with suppress(OSError):
                Path(unfinished).unlink()
    return str(file)


def _upload_table(session: Session, run: Run, folder: RemoteFolder) -> str:
    """The same in an object store."""
    file = folder.file(_TABLE)
    try:
        with tempfile.TemporaryDirectory(prefix="xraycam-") as scratch:
            written = Path(scratch) / _TABLE
            with written.open("w", newline="", encoding="utf-8") as stream:
                write_csv(session.ledger, Filter(run=run.id), stream)
            file.upload(written)
    except (OSError, XraycamError) as error:
        return (
            f"not written, {error}; 'xraycam results {run.id} --format csv --output FILE' writes it elsewhere"
        )
    return str(file)


def unfinished_status(session: Session, run: Run) -> int:
    """Say that a run was cancelled or stopped before all its images had a result; the exit status, which is
    0 without a word where all have one."""
    found = session.ledger.query(runs.progress, run.id)
    if found.is_complete:
        return 0
    word = "cancelled" if session.ledger.query(get_run, run.id).state == CANCELLED else "stopped"
    session.tell(
        f"run {run.id} was {word}: {counted(found.pending, 'image')} without a result; "
        f"'xraycam resume {run.id}' does the rest"
    )
    return INTERRUPTED


def halted_status(session: Session, run: Run) -> int:
    """As `unfinished_status`, and 0 where workers go on with the run."""
    is_halted = session.ledger.query(get_run, run.id).state in HALTED
    return unfinished_status(session, run) if is_halted else 0


def watch_run(session: Session, watched: Run, *, once: bool = False) -> int:
    """Show a run until it is complete or halted, then how it stands; the exit status, that of an interruption
    where it was halted before its end."""
    if once:
        found = session.ledger.query(runs.progress, watched.id)
    else:

        def look(found: runs.Progress, workers: int) -> str | None:
            return stall_reason(session, watched.id, found, workers)

        with ProgressDisplay(session.err, session.ledger, watched, look) as display:
            found = wait_for_run(display, session.ledger, watched, lambda: None)
    stands = session.ledger.query(get_run, watched.id)
    is_whole = found.is_complete and stands.is_scanned
    if is_whole and not once:
        return summarize(session, watched)
    if stands.state == SCANNING:
        ended = "being scanned"
    else:
        ended = "complete" if is_whole else stands.state if stands.state in HALTED else "in progress"
    click.echo(f"run {watched.id}: {ended}, {found.done} of {found.images} done, {found.failed} failed")
    for reason, count in session.ledger.query(runs.failures_by_reason, watched.id).items():
        click.echo(f"  {count} {reason}")
    if found.expired_leases:
        click.echo(f"  {counted(found.expired_leases, 'lease')} expired; chunks re-run")
    if not found.is_complete:
        live = live_workers(session.ledger)
        workers = inference_workers(live)
        click.echo(f"  {counted(workers, 'live worker')}")
        for last_error in dict.fromkeys(worker.last_error for worker in live if worker.last_error):
            click.echo(f"  {last_error}")
        if (line := stall_reason(session, watched.id, found, workers)) is not None:
            click.echo(f"  {line}")
    if not once:
        return INTERRUPTED
    return SOME_FAILED if found.failed else 0
