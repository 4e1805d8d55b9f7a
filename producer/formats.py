"""Writing predictions as a table, CSV, JSON, JSON lines or Parquet; streamed, whatever the run's size."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import IO, Any, TextIO

from rich.console import Console

from db.ledger import Ledger
from db.results import COLUMNS, Filter, read_predictions
from db.runs import Run
from producer.tables import Column, Table
from worker.explain.decision import findings_seen
from worker.score_words import score_and_threshold

PARQUET_ROWS = 10_000


# A column of its own for the probability of one class: `probabilities.Tuberculosis`.
OF_CLASS = "probabilities."


def _rows(ledger: Ledger, wanted: Filter, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in read_predictions(ledger, wanted):
        yield {name: value_of(row, name) for name in columns}


def value_of(row: dict[str, Any], column: str) -> Any:
    """The value of a column of a prediction, or the probability of a class by `probabilities.CLASS`."""
    if column.startswith(OF_CLASS):
        return (row["probabilities"] or {}).get(column.removeprefix(OF_CLASS))
    return row[column]


def write_csv(ledger: Ledger, wanted: Filter, stream: TextIO, columns: Sequence[str] = COLUMNS) -> None:
    """An image that was not checked has the words for it in `odd`: CSV tells no null from nothing odd."""
    writer = csv.DictWriter(stream, columns)
    writer.writeheader()
    for row in read_predictions(ledger, wanted):
        told = row | {"odd": _odd(row)}
        writer.writerow({name: _text(value_of(told, name)) for name in columns})


def write_json(ledger: Ledger, wanted: Filter, stream: TextIO, columns: Sequence[str] = COLUMNS) -> None:
    """One JSON array, a row a line."""
    separator = "[\n"
    for row in _rows(ledger, wanted, columns):
        stream.write(separator + json.dumps(row, default=_text, ensure_ascii=False))
        separator = ",\n"
    stream.write("\n]\n" if separator == ",\n" else "[]\n")


def write_jsonl(ledger: Ledger, wanted: Filter, stream: TextIO, columns: Sequence[str] = COLUMNS) -> None:
    for row in _rows(ledger, wanted, columns):
        stream.write(json.dumps(row, default=_text, ensure_ascii=False) + "\n")


def write_parquet(
    ledger: Ledger, wanted: Filter, stream: IO[bytes], columns: Sequence[str] = COLUMNS
) -> None:
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

    def type_of(name: str) -> Any:
        if name.startswith(OF_CLASS):
            return pyarrow.float64()
        return types.get(type(predictions.c[name].type), pyarrow.string())

    schema = pyarrow.schema([(name, type_of(name)) for name in columns])
    rows = _rows(ledger, wanted, columns)
    with parquet.ParquetWriter(stream, schema) as writer:
        while batch := list(islice(rows, PARQUET_ROWS)):
            texts = [{name: _cell(value) for name, value in row.items()} for row in batch]
            writer.write_table(pyarrow.Table.from_pylist(texts, schema))


def print_table(
    ledger: Ledger,
    wanted: Filter,
    run: Run,
    console: Console,
    columns: Sequence[str] | None = None,
    findings: Callable[[], Collection[str] | None] = tuple,
) -> int:
    """Print `columns`, or what a person wants to see of each row; paths are shortened. `findings`
    gives the classes of the run that do not exclude each other. Returns the number of rows."""
    rows = list(read_predictions(ledger, wanted))
    title = f"run {run.id}: {run.asked}\noverlays in {run.output}"
    if columns is not None:
        numbers = {
            name for name in columns if any(isinstance(value_of(row, name), int | float) for row in rows)
        }
        table = Table([Column(name, right=name in numbers, breaks=True) for name in columns], title)
        for row in rows:
            score, threshold = score_and_threshold(row["score"], row["threshold"], 3)
            cells = row | {"score": score, "threshold": threshold, "odd": _odd(row)}
            table.add_row(*(_shown(value_of(cells, name), run) for name in columns))
    else:
        table = _usual_table(rows, run, title, findings)
    table.print(console)
    return len(rows)


# So many classes have a column each for their probability; of more, the results hold it.
_CLASSES_SHOWN = 4


def _usual_table(
    rows: Sequence[dict[str, Any]], run: Run, title: str, findings: Callable[[], Collection[str] | None]
) -> Table:
    classes = sorted({name for row in rows for name in row["probabilities"] or {}})
    classes = classes if len(classes) <= _CLASSES_SHOWN else []
    has = {name for row in rows for name, value in row.items() if value not in (None, "")}
    has |= {"odd"} if any(map(_odd, rows)) else set()
    optional = (
        ("score", Column("score", right=True)),
        ("decision", Column("decision")),
        ("error", Column("why it failed", least=24, breaks=True)),
        ("odd", Column("odd", 2)),
        ("layer", Column("layer and method", 4, breaks=True)),
        ("overlay", Column("overlay", 5, breaks=True)),
    )
    shown = [(name, column) for name, column in optional if name in has]
    ofs = [Column(f"P({name})", 3, right=True) for name in classes]
    start = [Column("image", breaks=True), Column("class")]
    table = Table([*start, *(ofs or [Column("probability", 1, right=True)]), *(c for _, c in shown)], title)
    # Asked for only where it matters: it reads descriptions of models.
    several = findings() if any(len(findings_seen(row["probabilities"])) > 1 for row in rows) else ()
    for row in rows:
        of_row = [_shown(value_of(row, OF_CLASS + name), run) for name in classes]
        cells = row | {
            "odd": _odd(row),
            "layer": _origin(row) if row["status"] == "done" else "",
            "score": score_and_threshold(row["score"], row["threshold"])[0],
        }
        table.add_row(
            row["path"].removeprefix(run.root.rstrip("/") + "/"),
            _predicted(row, several),
            *(of_row or [_shown(row["probability"], run)]),
            *(_shown(cells[name], run) for name, _ in shown),
        )
    return table


def _shown(value: Any, run: Run) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = "" if value is None else str(_text(value))
    return text.removeprefix(run.output + "/").removeprefix(run.root.rstrip("/") + "/")


def _odd(row: dict[str, Any]) -> str | None:
    return "not checked" if row["odd"] is None and row["status"] == "done" else row["odd"]


def _predicted(row: dict[str, Any], findings: Collection[str] | None) -> str:
    """The class, or all findings at 0.5 or more, the most probable first; without a result the status."""
    seen = [name for name, _ in findings_seen(row["probabilities"], findings)]
    return ", ".join(seen) if len(seen) > 1 else row["class"] or row["status"]


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
