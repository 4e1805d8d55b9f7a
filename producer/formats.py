"""Writing predictions as a table, CSV, JSON, JSON lines or Parquet; streamed, whatever the run's size."""

from __future__ import annotations

import csv
import json
from datetime import datetime
from itertools import islice
from typing import IO, Any, TextIO

from rich.console import Console
from rich.table import Table

from db.ledger import Ledger
from db.results import COLUMNS, Filter, read_predictions
from db.runs import Run

PARQUET_ROWS = 10_000


def write_csv(ledger: Ledger, wanted: Filter, stream: TextIO) -> None:
    writer = csv.DictWriter(stream, COLUMNS)
    writer.writeheader()
    for row in read_predictions(ledger, wanted):
        writer.writerow({name: _text(value) for name, value in row.items()})


def write_json(ledger: Ledger, wanted: Filter, stream: TextIO) -> None:
    """One JSON array, a row a line."""
    separator = "[\n"
    for row in read_predictions(ledger, wanted):
        stream.write(separator + json.dumps(row, default=_text, ensure_ascii=False))
        separator = ",\n"
    stream.write("\n]\n" if separator == ",\n" else "[]\n")


def write_jsonl(ledger: Ledger, wanted: Filter, stream: TextIO) -> None:
    for row in read_predictions(ledger, wanted):
        stream.write(json.dumps(row, default=_text, ensure_ascii=False) + "\n")


def write_parquet(ledger: Ledger, wanted: Filter, stream: IO[bytes]) -> None:
    import pyarrow
    from pyarrow import parquet
    from sqlalchemy import BigInteger, Boolean, Double

    from db.dialect import Timestamp
    from db.schema import predictions

    types: dict[type, Any] = {
        BigInteger: pyarrow.int64(),
        Double: pyarrow.float64(),
        Boolean: pyarrow.bool_(),
        Timestamp: pyarrow.timestamp("ms", tz="UTC"),
    }
    schema = pyarrow.schema(
        [(name, types.get(type(predictions.c[name].type), pyarrow.string())) for name in COLUMNS]
    )
    rows = read_predictions(ledger, wanted)
    with parquet.ParquetWriter(stream, schema) as writer:
        while batch := list(islice(rows, PARQUET_ROWS)):
            texts = [{name: _cell(value) for name, value in row.items()} for row in batch]
            writer.write_table(pyarrow.Table.from_pylist(texts, schema))


def print_table(ledger: Ledger, wanted: Filter, run: Run, console: Console) -> int:
    """Print what a person wants to see of each row, paths shortened; returns the number of rows."""
    table = Table(title=f"run {run.id}: {run.root}\noverlays in {run.output}", title_justify="left")
    table.add_column("image", overflow="fold", ratio=3)
    table.add_column("class", no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column("odd", overflow="fold")
    table.add_column("layer and method", overflow="fold", ratio=2)
    table.add_column("overlay, or why there is none", overflow="fold", ratio=5)
    count = 0
    for row in read_predictions(ledger, wanted):
        count += 1
        # A done image without one: of a model of findings, that sees none.
        probability, done = row["probability"], row["status"] == "done"
        table.add_row(
            row["path"].removeprefix(run.root.rstrip("/") + "/"),
            row["class"] or row["status"],
            "" if probability is None else f"{probability:.3f}",
            "not checked" if row["odd"] is None and done else row["odd"] or "",
            _origin(row) if done else "",
            (row["overlay"] or "").removeprefix(run.output + "/") or row["error"] or "",
        )
    console.print(table)
    return count


def _origin(row: dict[str, Any]) -> str:
    """Where the heatmap comes from, and what there is to say of it in a word."""
    marked = row["cam_mask_fraction"]
    inside = "" if marked is None else f", {marked:.0%} of the heat in the marked area"
    return f"{row['layer']} {row['method']}" + (" (blank)" if row["blank"] else inside)


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    return _cell(value)
