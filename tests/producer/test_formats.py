"""Tables of results: what stands beside each other agrees."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import pytest
from rich.console import Console

from db.ledger import Ledger
from db.results import Filter
from producer.formats import print_table, write_csv, write_jsonl
from tests.support.made_runs import finish, lease, some_files, take


@pytest.mark.parametrize(
    ("columns", "shown"),
    [(None, ["27.97"]), (["path", "score", "threshold", "decision"], ["27.970", "28.000"])],
)
def test_score_just_below_its_threshold_does_not_contradict_its_decision(
    ledger: Ledger, columns: Sequence[str] | None, shown: list[str]
) -> None:
    said = printed(ledger, 27.97, columns)
    assert all(text in said for text in (*shown, "do-not-refer"))


def test_columns_that_are_asked_for_have_as_many_digits_as_differ(ledger: Ledger) -> None:
    text = printed(ledger, 27.99996, ["score", "threshold", "decision"])
    assert "27.99996" in text
    assert "28.00000" in text


def printed(ledger: Ledger, score: float, columns: Sequence[str] | None) -> str:
    run, _ = take(ledger, some_files(1))
    decided = {"score": score, "threshold": 28.0, "decision": "do-not-refer", "class": "Normal"}
    finish(ledger, lease(ledger, run, 1), **decided)
    stream = io.StringIO()
    print_table(ledger, Filter(run=run.id), run, Console(file=stream, width=200), columns)
    return stream.getvalue()


@pytest.mark.parametrize("columns", [None, ["path", "odd"]])
def test_an_image_that_was_not_checked_does_not_read_as_one_with_nothing_odd(
    ledger: Ledger, columns: Sequence[str] | None
) -> None:
    run, _ = take(ledger, some_files(3), chunk_size=1)
    for number, row in enumerate(({"odd": ""}, {"odd": None}, {"status": "failed"}), start=1):
        finish(ledger, lease(ledger, run, number), **row)
    wanted, stream = Filter(run=run.id), io.StringIO()
    print_table(ledger, wanted, run, Console(file=stream, width=200), columns)
    assert ["not checked" in line for line in stream.getvalue().splitlines()[-3:]] == [False, True, False]
    table = io.StringIO(newline="")
    write_csv(ledger, wanted, table, ["status", "odd"])
    assert table.getvalue().split() == ["status,odd", "done,", "done,not", "checked", "failed,"]
    lines = io.StringIO()
    write_jsonl(ledger, wanted, lines, ["odd"])
    assert [json.loads(line)["odd"] for line in lines.getvalue().splitlines()] == ["", None, None]
