"""Results by study: the highest first on both databases, and images without a result are not left out."""

from __future__ import annotations

from typing import Any

import pytest

from db.browse import report_rows
from db.grouped_results import GROUP_COLUMNS, read_groups
from db.leases import record_results
from db.ledger import Ledger
from db.runs import CANCELLED, Run, set_state
from tests.support.made_runs import lease, some_files, take


def recorded(ledger: Ledger, made: list[dict[str, Any]], pending: int = 0) -> Run:
    run, _ = take(ledger, some_files(len(made) + pending), chunk_size=len(made))
    held = lease(ledger, run, 1)
    given = [row | {"image_id": image.id} for row, image in zip(made, held.images, strict=True)]
    ledger.write(record_results, held, given)
    return run


def done(study: str | None, probability: float | None, **columns: Any) -> dict[str, Any]:
    chances = None if probability is None else {"TB": probability}
    return {
        "status": "done", "study": study, "probability": probability, "probabilities": chances, **columns
    }  # fmt: skip


def failed(study: str | None) -> dict[str, Any]:
    return {"status": "failed", "reason": "not-frontal", "study": study}


def groups(ledger: Ledger, run: Run, class_name: str | None = None) -> list[dict[str, Any]]:
    with ledger.read() as connection:
        return list(read_groups(connection, run.id, "study", class_name))


@pytest.mark.parametrize("class_name", [None, "TB"])
def test_studies_that_failed_entirely_come_after_all_that_have_a_probability(
    ledger: Ledger, class_name: str | None
) -> None:
    made = [
        failed("a"),
        done("b", 0.2),
        failed(None),
        done("c", 0.9),
        failed("c"),
        done("d", None),
        failed("e"),
    ]
    found = groups(ledger, recorded(ledger, made), class_name)
    assert [row["study"] for row in found] == ["c", "b", "a", "d", "e", None]
    assert [row["highest_probability"] for row in found[:2]] == [0.9, 0.2]


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_images_without_a_result_are_a_row_of_their_own(ledger: Ledger, is_cancelled: bool) -> None:
    run = recorded(ledger, [done("a", 0.2, decision="do-not-refer"), failed(None)], pending=3)
    if is_cancelled:
        ledger.write(set_state, run.id, CANCELLED)
    *others, last = groups(ledger, run)
    assert [row["study"] for row in others] == ["a", None]
    assert all(tuple(row) == ("study", *GROUP_COLUMNS) for row in (*others, last))
    assert (last["study"], last["images"], last["done"], last["failed"]) == (None, 3, 0, 0)
    assert last["status"] == ("cancelled" if is_cancelled else "pending")
    assert last["decision"] is None


@pytest.mark.parametrize("score", [None, 40.0])
def test_a_report_shows_results_without_a_value_after_those_with_one(
    ledger: Ledger, score: float | None
) -> None:
    column = "probability" if score is None else "score"
    made = [done(None, None), done(None, 0.7), failed(None), failed(None), done(None, None), done(None, 0.6)]
    if score is not None:
        made = [row | {"score": row["probability"]} if row["status"] == "done" else row for row in made]
    run = recorded(ledger, made)
    with ledger.read() as connection:
        shown = list(report_rows(connection, run.id, 5))
    assert [row["status"] for row in shown] == ["failed"] * 2 + ["done"] * 3
    assert [row[column] is None for row in shown[2:]] == [False, False, True]
