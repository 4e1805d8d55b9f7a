"""`xraycam results --per study|patient`: written as a table, CSV, JSON or JSON lines."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any, TextIO

import click

from db.grouped_results import GROUP_COLUMNS, hash_keys, read_groups
from producer.result_notes import unfinished_note
from producer.tables import Column, Table

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
    result, and where keys differ."""
    if (note := unfinished_note(session, run, by)) is not None:
        session.tell(note)
    with session.ledger.read() as connection:
        rows = list(read_groups(connection, run.id, by, class_name))[:limit]
        keys = hash_keys(connection, run.id)
    if len(keys) > 1:
        session.tell(
            f"run {run.id}: workers hashed patients with {len(keys)} different keys, so that one {by} may be "
            "several rows; set XRAYCAM_IDENTITY_KEY_FILE to the same file on all machines, and run --force"
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
            table.add_row(*(_text(row[name]) for name in columns))
        table.print(session.out)
    else:
        raise click.UsageError(f"--per {by} is written as table, csv, json or jsonl.")


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
