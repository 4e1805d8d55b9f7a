"""`xraycam export-dicom`: results as DICOM objects, in a folder or at a PACS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.counted_words import counted

if TYPE_CHECKING:
    from db.runs import Run
    from producer.pacs.export import ExportCounts, ExportOptions
    from producer.session import Session


@click.command("export-dicom")
@click.argument("run", type=int, required=False)
@click.option("--sc", is_flag=True, help="Secondary captures: the overlays, with a caption below.")
@click.option("--sr", is_flag=True, help="Structured reports: score, class, decision, model and version.")
@click.option("--map", "maps", is_flag=True, help="Parametric maps: the heatmaps that 'run --heatmaps' kept.")
@click.option(
    "--output",
    required=True,
    metavar="FOLDER|URL",
    help="A folder, dicomweb+https://HOST/dicom-web (STOW-RS) or dicom://AET@HOST:PORT (C-STORE).",
)
@click.option("--rle", is_flag=True, help="Compress the captures, without loss.")
@click.option("--again", is_flag=True, help="Send also what the target has confirmed before.")
def export_dicom_command(
    run: int | None, sc: bool, sr: bool, maps: bool, output: str, rle: bool, again: bool
) -> None:
    """Give the results of RUN (or of the latest run) back as DICOM objects of the studies they are of.

    Without --sc, --sr or --map: captures and reports. Only images that were DICOM have a study; others are
    left out. The same again makes the same objects, and a PACS is sent only what it has not confirmed.
    The objects hold the patient's identity, as their sources do.

    \b
    Examples:
      xraycam export-dicom 3 --output ./for-the-pacs
      xraycam export-dicom --sr --output dicomweb+https://pacs.example/dicom-web
    """
    from producer.pacs.export import ExportOptions
    from producer.session import open_session

    session = open_session()
    chosen = {"capture": sc, "report": sr, "map": maps}
    kinds = frozenset(kind for kind, wanted in chosen.items() if wanted) or frozenset({"capture", "report"})
    raise SystemExit(export_and_report(session, session.run(run), output, ExportOptions(kinds, rle, again)))


def export_and_report(session: Session, run: Run, output: str, options: ExportOptions) -> int:
    """Export, and say how it went; the exit status."""
    from rich.progress import Progress

    from db.runs import progress
    from producer.pacs.export import export_run
    from producer.pacs.targets import open_target

    target = open_target(output, session.settings)
    found = session.ledger.query(progress, run.id)
    if found.pending:
        session.tell(f"{counted(found.pending, 'image')} of run {run.id} without a result: not exported")
    with Progress(console=session.err, disable=not session.err.is_terminal) as display:
        bar = display.add_task("exporting", total=found.done)
        try:
            counts = export_run(
                session.ledger,
                session.settings,
                run,
                target,
                options,
                session.tell,
                lambda: display.advance(bar),
            )
        finally:
            target.close()
    return report_export(run, target.name, counts)


def report_export(run: Run, name: str, counts: ExportCounts) -> int:
    """Say how an export went; the exit status."""
    from db.exports import SENT
    from producer.cli import SOME_FAILED

    words = [f"{counts.fates[SENT]} objects sent"]
    if counts.unchanged:
        words.append(f"{counts.unchanged} there already")
    words += [f"{count} {state}" for state, count in counts.fates.items() if state != SENT]
    words += [f"{counted(count, 'image')} failed: {reason}" for reason, count in counts.failed.items()]
    if counts.not_dicom:
        words.append(
            f"{counted(counts.not_dicom, 'image')} {'is' if counts.not_dicom == 1 else 'are'} not DICOM"
        )
    click.echo(f"run {run.id} to {name}: {', '.join(words)}")
    for answer, count in counts.answers.most_common(5):
        click.echo(f"  {count} {answer}", err=True)
    return 0 if counts.is_whole else SOME_FAILED


def check_target(session: Session, given: str | None) -> None:
    """Refuse what is no place for DICOM objects before anything is done."""
    if given is not None:
        from producer.pacs.targets import open_target

        open_target(given, session.settings).close()


def send_results(session: Session, run: Run, given: str) -> int:
    """Captures and reports of a run to a target; the exit status."""
    from producer.pacs.export import ExportOptions

    return export_and_report(session, run, given, ExportOptions(frozenset({"capture", "report"})))
