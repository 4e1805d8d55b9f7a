"""Writing a report while a person waits for it."""

from __future__ import annotations

from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from db.runs import Run
from producer.session import Session
from producer.viewer.report import Report, ReportOptions, report_folder, write_report
from worker.counted_words import counted


def make_report(
    session: Session, run: Run, folder: Path | None = None, options: ReportOptions | None = None
) -> Report:
    """Write a report, showing progress; says on standard error what is not in it. Raises XraycamError."""
    columns = (TextColumn("report"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=session.err, disable=not session.err.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def show(written: int, total: int) -> None:
            bar.update(task, completed=written, total=total)

        made = write_report(session, run, folder or report_folder(session.settings.home, run), options, show)
    if made.shown < made.results:
        session.tell(f"{made.results - made.shown:,} of {made.results:,} results are not in the report")
    if made.without_picture:
        session.tell(f"{counted(made.without_picture, 'image')} of the report without a picture; it says why")
    return made
