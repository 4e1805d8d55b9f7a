"""Pages of a run, followed to their end, have every image once, whatever they are sorted by."""

from __future__ import annotations

from typing import Any

import pytest

from db.ledger import Ledger
from db.result_pages import PAGE, SORTS, Key, PageQuery, read_page
from db.runs import Run
from producer.viewer.app import _after, _after_text
from tests.db.test_grouped_results import recorded

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
