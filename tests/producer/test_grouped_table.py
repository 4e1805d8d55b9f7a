"""The table by study says of scores what the decisions beside them say."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

from db.ledger import Ledger
from producer.grouped_results import write_groups
from producer.session import Session
from tests.db.test_grouped_results import done, recorded
from worker.settings import load_settings


def test_a_score_just_below_the_threshold_does_not_read_as_if_it_were_at_it(ledger: Ledger) -> None:
    just_below = done("a", 0.28, score=27.99999, decision="do-not-refer")
    run = recorded(ledger, [just_below, done("b", 0.5, score=28.0, decision="refer"), done("c", None)])
    run = replace(run, options=run.options | {"threshold": 28.0})
    printed = Console(file=StringIO(), width=300)
    session = Session(load_settings(), ledger, printed, Console(file=StringIO()))
    write_groups(session, run, "study", None, "table", StringIO(), None)
    assert isinstance(printed.file, StringIO)
    lines = {line.split()[0]: line.split() for line in printed.file.getvalue().splitlines()}
    assert "27.99999" in lines["a"]
    assert "28.000" in lines["b"]
    assert lines["c"] == ["c", "1", "1", "0", "0", "done"]


@pytest.mark.parametrize("class_name", [None, "TB"])
def test_it_is_said_of_which_class_the_highest_probability_is(ledger: Ledger, class_name: str | None) -> None:
    run = recorded(ledger, [done("a", 0.9)])
    said = StringIO()
    session = Session(load_settings(), ledger, Console(file=StringIO()), Console(file=said, width=300))
    write_groups(session, run, "study", class_name, "csv", StringIO(), None)
    assert ("of whatever class" in said.getvalue()) == (class_name is None)
