"""`xraycam results --per study|patient`: written as a table, CSV, JSON or JSON lines."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any, TextIO

import click

from db.grouped_results import GROUP_COLUMNS, hash_keys, read_groups
from producer.result_notes import gone_note, unfinished_note, versions_note
from producer.tables import Column, Table
from worker.score_words import score_and_threshold

if TYPE_CHECKING:
    from db.runs import Run
    from producer.session import Session


def write_groups(
    session: Session,
    run: Run,
    by: str,
    class_name: str | None,
    output_format: str,
    stream: TextIO,
    limit: int | None,
) -> None:
    """Write one row for each `by`, `study` or `patient`; says on standard error how many images have no
    result or no file any more, and where keys differ."""
    notes = (gone_note(session, run, by), unfinished_note(session, run, by), versions_note(session, run))
    for note in filter(None, notes):
        session.tell(note)
    with session.ledger.read() as connection:
        rows = list(read_groups(connection, run.id, by, class_name))[:limit]
        keys = hash_keys(connection, run.id)
    if len(keys) > 1:
        session.tell(
            f"run {run.id}: workers hashed patients with {len(keys)} different keys, so that one {by} may be "
            "several rows; set XRAYCAM_IDENTITY_KEY_FILE to the same file on all machines, and run --force"
        )
    if class_name is None and any(row["highest_probability"] is not None for row in rows):
        session.tell(
            "highest_probability is of whatever class an image was predicted as, be it the harmless one; "
            "--class names one"
        )
    columns = (by, *GROUP_COLUMNS)
    if output_format == "csv":
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(rows)
    elif output_format == "jsonl":
        stream.writelines(json.dumps(row) + "\n" for row in rows)
    elif output_format == "json":
        stream.write(json.dumps(rows, indent=1) + "\n")
    elif output_format == "table":
        numbers = {name for name in columns if any(isinstance(row[name], int | float) for row in rows)}
        table = Table(
            [
                Column(name.replace("_", " "), index, right=name in numbers, breaks=True)
                for index, name in enumerate(columns)
            ],
            title=f"run {run.id} by {by}",
        )
        for row in rows:
            # Beside a decision: a score below the threshold is not to read as if it were at it.
            score, _ = score_and_threshold(row["highest_score"], run.options.get("threshold"), 3)
            table.add_row(*(_text(cell) for cell in (row | {"highest_score": score}).values()))
        table.print(session.out)
    else:
        raise click.UsageError(f"--per {by} is written as table, csv, json or jsonl.")


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
