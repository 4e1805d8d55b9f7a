"""Every combination of filters against the same question asked in Python, of all rows, in any order."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from itertools import product
from typing import Any

import pyarrow.parquet
import pytest

from db.leases import record_results
from db.ledger import Ledger
from db.results import FINDING_FROM, Filter, count_predictions, read_predictions
from db.runs import CANCELLED, set_state
from producer.formats import write_csv, write_json, write_jsonl, write_parquet
from tests.support.made_runs import lease, some_files, take

STATUSES = (None, "done", "failed", "pending", "cancelled")
SORTS = (None, "score", "-score", "-probability", "path", "-path", "reason")
Row = dict[str, Any]


@pytest.fixture
def rows(ledger: Ledger) -> list[Row]:
    """Of two runs, one of them cancelled: done ones with and without score, failed ones, and some without a
    result; all as they are read without a filter."""
    made: list[Row] = [
        {"status": "done", "class": "Normal", "probability": 0.9, "score": 10.0,
         "probabilities": {"Normal": 0.9, "TB": 0.1}},
        {"status": "done", "class": "TB", "probability": 0.8, "score": 80.0,
         "probabilities": {"Normal": 0.2, "TB": 0.8}},
        {"status": "failed", "reason": "empty", "error": "empty"},
        {"status": "done", "class": "TB", "probability": 0.55, "probabilities": {"Normal": 0.45, "TB": 0.55}},
        {"status": "failed", "reason": "truncated", "error": "cut"},
        {"status": "done", "class": "none", "score": 30.0, "probabilities": {"Normal": 0.4, "TB": 0.3}},
    ]  # fmt: skip
    for root in ("/open", "/halted"):
        run, _ = take(ledger, some_files(9), root=root, chunk_size=6)
        held = lease(ledger, run, 1)
        given = [row | {"image_id": image.id} for row, image in zip(made, held.images, strict=True)]
        ledger.write(record_results, held, given)
    ledger.write(set_state, run.id, CANCELLED)
    return list(read_predictions(ledger, Filter()))


def filters() -> Iterator[Filter]:
    named = [(None, False), ("TB", False), ("TB", True), ("Nothing", False)]
    for run, status, (name, is_finding), probability, score, reason in product(
        (None, 1, 2), STATUSES, named, (None, 0.7), (None, 30.0), (None, "empty")
    ):
        yield Filter(run, name, probability, score, status, reason, is_finding=is_finding)


def is_wanted(row: Row, wanted: Filter) -> bool:
    if wanted.class_name is not None and wanted.is_finding:
        chance = (row["probabilities"] or {}).get(wanted.class_name)
        least = FINDING_FROM if wanted.min_probability is None else wanted.min_probability
    else:
        chance, least = row["probability"], wanted.min_probability
        if wanted.class_name is not None and row["class"] != wanted.class_name:
            return False
    return (
        wanted.run in (None, row["run"])
        and wanted.status in (None, row["status"])
        and wanted.reason in (None, row["reason"])
        and (least is None or (chance is not None and chance >= least))
        and (wanted.min_score is None or (row["score"] is not None and row["score"] >= wanted.min_score))
    )


def test_filters_together_give_what_each_of_them_lets_through(ledger: Ledger, rows: list[Row]) -> None:
    assert {row["status"] for row in rows} == {*STATUSES} - {None}
    for wanted in filters():
        expected = sorted(row["path"] for row in rows if is_wanted(row, wanted))
        assert sorted(row["path"] for row in read_predictions(ledger, wanted)) == expected, wanted
        assert ledger.query(count_predictions, wanted) == len(expected), wanted


def test_sorting_changes_the_order_and_nothing_else(ledger: Ledger, rows: list[Row]) -> None:
    for wanted, sort in product(filters(), SORTS):
        if wanted.run is None or sort is None:
            continue
        name = sort.removeprefix("-")
        expected = sorted(
            (row for row in rows if is_wanted(row, wanted) and row[name] is not None),
            key=lambda row: row[name],
            reverse=sort.startswith("-"),
        )
        without = [row for row in rows if is_wanted(row, wanted) and row[name] is None]
        asked = Filter(**{**vars(wanted), "sort": sort})
        found = list(read_predictions(ledger, asked))
        assert [row[name] for row in found] == [row[name] for row in [*expected, *without]], asked
        assert {row["path"] for row in found} == {row["path"] for row in [*expected, *without]}, asked
        assert ledger.query(count_predictions, asked) == len(found), asked


def test_every_format_has_the_same_rows(ledger: Ledger, rows: list[Row]) -> None:
    for wanted in filters():
        if wanted.run != 1:
            continue
        expected = [row["path"] for row in read_predictions(ledger, wanted)]
        texts = [io.StringIO(), io.StringIO(), io.StringIO()]
        for write, stream in zip((write_csv, write_json, write_jsonl), texts, strict=True):
            write(ledger, wanted, stream)
        table, whole, lines = (stream.getvalue() for stream in texts)
        assert [row["path"] for row in csv.DictReader(io.StringIO(table))] == expected, wanted
        assert [row["path"] for row in json.loads(whole)] == expected, wanted
        assert [json.loads(line)["path"] for line in lines.splitlines()] == expected, wanted
        if wanted.min_score is None:
            parquet = io.BytesIO()
            write_parquet(ledger, wanted, parquet, ("path", "status"))
            read = pyarrow.parquet.read_table(io.BytesIO(parquet.getvalue()))
            assert read.column("path").to_pylist() == expected, wanted
