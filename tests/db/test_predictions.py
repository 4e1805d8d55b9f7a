"""Reading predictions: by the view for plain SQL, and by `read_predictions`; both say the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

from db.leases import record_results
from db.ledger import Ledger
from db.migrate import migrate
from db.result_pages import PageQuery, read_page
from db.results import (
    COLUMNS,
    SORTABLE,
    Filter,
    count_findings,
    count_predictions,
    read_predictions,
    statement_for,
    statements_for,
)
from db.runs import CANCELLED, Run, set_state
from db.schema import predictions
from tests.support.made_runs import lease, some_files, take


@pytest.fixture
def run(ledger: Ledger) -> Run:
    """Two Normal, one Tuberculosis, one failed, two pending; and another, cancelled, with one of each."""
    run, _ = take(ledger, some_files(6), chunk_size=4)
    held = lease(ledger, run, 1)
    found: list[dict[str, Any]] = [
        {"status": "done", "class": "Normal", "probability": 0.75, "overlay": "/overlays/x.jpg"},
        {"status": "done", "class": "Tuberculosis", "probability": 0.95, "blank": True, "logit": 2.5},
        {"status": "failed", "reason": "empty", "error": "x.png is empty: copy it again"},
        {"status": "done", "class": "Normal", "probability": 0.9, "layer": "out_relu", "method": "gradcam"},
    ]
    ledger.write(
        record_results,
        held,
        [row | {"image_id": image.id} for row, image in zip(found, held.images, strict=True)],
    )
    other, _ = take(ledger, some_files(2), root="/other", chunk_size=1)
    held = lease(ledger, other, 1)
    ledger.write(record_results, held, [{"image_id": held.images[0].id, "status": "done", "class": "Normal"}])
    ledger.write(set_state, other.id, CANCELLED)
    return run


def names(ledger: Ledger, wanted: Filter) -> list[str]:
    return [str(row["path"]).rpartition("/x")[2] for row in read_predictions(ledger, wanted)]


def test_all_columns_of_the_view_are_read(ledger: Ledger, run: Run) -> None:
    rows = list(read_predictions(ledger, Filter(run=run.id)))
    assert [tuple(row) for row in rows] == [COLUMNS] * 6
    first = rows[0]
    assert (first["run"], first["path"], first["status"]) == (run.id, "/archive/ward/x0000.png", "done")
    assert (first["class"], first["probability"], first["overlay"]) == ("Normal", 0.75, "/overlays/x.jpg")
    assert first["enqueued_at"] == run.created_at
    assert first["finished_at"] is not None
    assert rows[1]["blank"] is True


def test_view_says_the_same(ledger: Ledger, run: Run) -> None:
    with ledger.read() as connection:
        of_view = [dict(row._mapping) for row in connection.execute(select(predictions))]
    assert run.id == 1

    def by_path(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return sorted(rows, key=lambda row: str(row["path"]))

    assert by_path(of_view) == by_path(list(read_predictions(ledger, Filter())))


def test_view_tells_pending_done_failed_and_cancelled(ledger: Ledger, run: Run) -> None:
    with ledger.read() as connection:
        found = connection.execute(text("SELECT run, status, count(*) FROM predictions GROUP BY run, status"))
        counts = {(row[0], row[1]): row[2] for row in found}
    assert counts == {
        (run.id, "done"): 3,
        (run.id, "failed"): 1,
        (run.id, "pending"): 2,
        (run.id + 1, "done"): 1,
        (run.id + 1, "cancelled"): 1,
    }


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["0000.png", "0001.png", "0002.png", "0003.png", "0004.png", "0005.png"]),
        ({"status": "done"}, ["0000.png", "0001.png", "0003.png"]),
        ({"status": "failed"}, ["0002.png"]),
        ({"status": "pending"}, ["0004.png", "0005.png"]),
        ({"status": "cancelled"}, []),
        ({"class_name": "Normal"}, ["0000.png", "0003.png"]),
        ({"class_name": "Normal", "min_probability": 0.9}, ["0003.png"]),
        ({"min_probability": 0.9}, ["0001.png", "0003.png"]),
        ({"class_name": "Nothing"}, []),
        ({"reason": "empty"}, ["0002.png"]),
        ({"reason": "truncated"}, []),
        ({"limit": 2}, ["0000.png", "0001.png"]),
        ({"status": "done", "limit": 1}, ["0000.png"]),
    ],
)
def test_filters(ledger: Ledger, run: Run, wanted: dict[str, Any], found: list[str]) -> None:
    assert names(ledger, Filter(run=run.id, **wanted)) == found


def test_cancelled_run_has_cancelled_images_and_no_pending_ones(ledger: Ledger, run: Run) -> None:
    assert names(ledger, Filter(run=run.id + 1, status="cancelled")) == ["0001.png"]
    assert names(ledger, Filter(run=run.id + 1, status="pending")) == []


def test_without_a_run_all_runs_are_read(ledger: Ledger, run: Run) -> None:
    assert run.id == 1
    assert len(names(ledger, Filter())) == 8
    assert len(names(ledger, Filter(status="done"))) == 4


@pytest.mark.parametrize("wanted", [{}, {"status": "failed"}, {"status": "done"}, {"class_name": "Normal"}])
def test_no_filter_reads_the_whole_of_a_table(tmp_path: Path, wanted: dict[str, Any]) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    migrate(ledger)
    statement = statement_for(Filter(run=1, limit=50, **wanted))
    sql = statement.compile(ledger.engine, compile_kwargs={"literal_binds": True})
    with ledger.read() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")]
    assert plan
    assert not [step for step in plan if step.startswith("SCAN")]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"sort": "probability"}, ["0000.png", "0003.png", "0001.png", "0002.png", "0004.png", "0005.png"]),
        ({"sort": "-probability"}, ["0001.png", "0003.png", "0000.png", "0002.png", "0004.png", "0005.png"]),
        ({"sort": "-probability", "limit": 4}, ["0001.png", "0003.png", "0000.png", "0002.png"]),
        ({"sort": "-probability", "status": "done", "limit": 2}, ["0001.png", "0003.png"]),
        ({"sort": "-probability", "class_name": "Normal"}, ["0003.png", "0000.png"]),
        ({"sort": "-path", "limit": 2}, ["0005.png", "0004.png"]),
        ({"sort": "-path", "status": "done"}, ["0003.png", "0001.png", "0000.png"]),
        ({"sort": "-probability", "status": "pending"}, ["0004.png", "0005.png"]),
        ({"sort": "error"}, ["0002.png", "0000.png", "0001.png", "0003.png", "0004.png", "0005.png"]),
    ],
)
def test_rows_without_the_value_sorted_by_come_last(
    ledger: Ledger, run: Run, wanted: dict[str, Any], found: list[str]
) -> None:
    assert names(ledger, Filter(run=run.id, **wanted)) == found


@pytest.mark.parametrize("name", SORTABLE)
def test_every_sortable_column_gives_all_rows(ledger: Ledger, run: Run, name: str) -> None:
    for sort in (name, f"-{name}"):
        assert sorted(names(ledger, Filter(run=run.id, sort=sort))) == [f"{n:04}.png" for n in range(6)]


@pytest.mark.parametrize(
    "wanted",
    [{}, {"status": "done"}, {"status": "pending"}, {"class_name": "Normal"}, {"reason": "empty"},
     {"min_probability": 0.9}, {"status": "cancelled"}],
)  # fmt: skip
def test_counting_says_how_many_are_read(ledger: Ledger, run: Run, wanted: dict[str, Any]) -> None:
    whole = Filter(run=run.id, **wanted)
    count = ledger.query(count_predictions, replace(whole, limit=1, sort="-score"))
    assert count == len(list(read_predictions(ledger, whole)))


@pytest.mark.parametrize("sort", ["score", "-score", "probability", "-cam_corner_fraction", "path", "-path"])
def test_an_index_gives_sorted_rows_of_a_run_at_once(tmp_path: Path, sort: str) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    migrate(ledger)
    first = statements_for(Filter(run=1, limit=50, sort=sort))[0]
    sql = first.compile(ledger.engine, compile_kwargs={"literal_binds": True})
    with ledger.read() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")]
    assert not [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE FOR ORDER BY" in step]


def test_an_image_is_found_by_each_of_its_findings(ledger: Ledger) -> None:
    run, _ = take(ledger, some_files(5), chunk_size=5)
    held = lease(ledger, run, 1)
    chances: list[dict[str, float]] = [
        {"Pleural Effusion": 0.9, "Cavity": 0.6},
        {"Pleural Effusion": 0.5, "Cavity": 0.8},
        {"Pleural Effusion": 0.1, "Cavity": 0.499},
        {"Pleural Effusion": 0.7, "Cavity": 0.2},
    ]
    rows: list[dict[str, Any]] = [
        {"status": "done", "class": max(one, key=lambda name: one[name]), "probabilities": one}
        for one in chances
    ]
    rows[2] |= {"class": "no finding"}
    rows.append({"status": "failed", "reason": "empty"})
    ledger.write(
        record_results,
        held,
        [row | {"image_id": image.id} for row, image in zip(rows, held.images, strict=True)],
    )
    cavity = Filter(run=run.id, class_name="Cavity", is_finding=True)
    assert names(ledger, replace(cavity, is_finding=False)) == ["0001.png"]
    assert names(ledger, cavity) == ["0000.png", "0001.png"]
    assert names(ledger, replace(cavity, min_probability=0.3)) == ["0000.png", "0001.png", "0002.png"]
    assert ledger.query(count_predictions, cavity) == 2
    both = ("Pleural Effusion", "Cavity")
    assert ledger.query(count_findings, run.id, both) == {"Pleural Effusion": 3, "Cavity": 2}
    assert ledger.query(count_findings, run.id, both, gone=False) == {"Pleural Effusion": 3, "Cavity": 2}
    assert ledger.query(count_findings, run.id, ()) == {}
    page = ledger.query(read_page, run.id, PageQuery(class_name="Cavity", is_finding=True), None)
    assert [row["path"] for row in page.rows] == ["ward/x0000.png", "ward/x0001.png"]
