"""Pages of a run, followed to their end, have every image once, whatever they are sorted by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from db.browse import find_result
from db.errors import RunNotFound, TrainingNotFound
from db.ingest import ScannedFile
from db.ledger import Ledger
from db.migrate import migrate
from db.result_pages import PAGE, SORTS, Key, PageQuery, read_page
from db.reviews import remove_review, save_review
from db.runs import Run, get_run
from db.trainings import get_training
from producer.viewer.app import _after, _after_text
from tests.db.test_grouped_results import recorded
from tests.support.made_runs import finish, lease, some_files, take

_COLUMNS = {"score": "score", "probability": "probability", "corner": "cam_corner_fraction"}


def row(place: int) -> dict[str, Any]:
    """Many of equal value, and of some none, as of an image in which a model sees no finding."""
    value = None if place % 5 == 0 else (place % 3) / 4
    found = {"score": None if value is None else 100 * value, "cam_corner_fraction": value}
    return {"status": "done", "class": "ab"[place % 2], "probability": value, **found}


@pytest.fixture
def run(ledger: Ledger) -> Run:
    return recorded(
        ledger, [row(place) for place in range(3 * PAGE)] + [{"status": "failed", "reason": "empty"}]
    )


def followed(ledger: Ledger, run: Run, query: PageQuery) -> list[dict[str, Any]]:
    """The rows of all pages, asked for as a browser does."""
    found, after, end = list[dict[str, Any]](), None, ""
    while end is not None:
        after = _after(end)
        page = ledger.query(read_page, run.id, query, after)
        found += page.rows
        end = None if page.after is None else _after_text(page.after)
    return found


@pytest.mark.parametrize("class_name", [None, "a"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SORTS)
def test_no_image_is_missing_and_those_without_a_value_are_last(
    ledger: Ledger, run: Run, sort: str, descending: bool, class_name: str | None
) -> None:
    found = followed(ledger, run, PageQuery(sort=sort, descending=descending, class_name=class_name))
    count = 3 * PAGE if class_name is None else 3 * PAGE // 2
    assert len({one["id"] for one in found}) == len(found) == count
    if sort == "id":
        return
    values = [one[_COLUMNS[sort]] for one in found]
    with_value = [value for value in values if value is not None]
    assert values[: len(with_value)] == sorted(with_value, reverse=descending)


@pytest.mark.parametrize("key", [(0.1 + 0.2, 7), (None, 0)])
def test_where_a_page_begins_survives_its_way_through_the_browser(key: Key) -> None:
    assert _after(_after_text(key)) == key


@pytest.mark.parametrize("name", ["größe", "GRÖẞE", "ÜNÏ", "ünï"])
def test_part_of_a_name_is_found_in_whatever_case(tmp_path: Path, name: str) -> None:
    # On Postgres the letters are those of the locale that the database was made with.
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    migrate(ledger)
    made, _ = take(ledger, [ScannedFile("ÜNÏ/Größe.png", 10, 1000)])
    finish(ledger, lease(ledger, made, 1))
    assert len(ledger.query(read_page, made.id, PageQuery(name=name), None).rows) == 1


@pytest.mark.parametrize("number", [0, -1, 1 << 63, 10**30])
def test_a_number_that_no_row_can_have_is_not_found(ledger: Ledger, number: int) -> None:
    made, _ = take(ledger, some_files(1))
    with pytest.raises(RunNotFound, match=f"there is no run {number}"):
        ledger.query(get_run, number)
    with pytest.raises(TrainingNotFound, match=f"there is no training {number}"):
        ledger.query(get_training, number)
    assert ledger.query(find_result, made.id, number) is None
    with pytest.raises(ValueError, match="has no prediction"):
        ledger.write(save_review, made.id, number, "first", "agree", None, None)
    ledger.write(remove_review, made.id, number, "first")
