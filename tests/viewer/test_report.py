"""A report opens from disk and does in a browser what it says; nothing of a name becomes markup."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from db.ingest import ScannedFile
from db.ledger import Ledger
from db.migrate import migrate
from db.schema import results
from producer.session import Session, open_session
from producer.viewer.report import ReportOptions, write_report
from tests.support.made_runs import finish, lease, take
from tests.support.servers import PATIENCE
from tests.viewer.pages import browser_page, ids, made_run
from worker.errors import XraycamError
from worker.our_folders import REPORT_MARKER
from worker.settings import load_settings

pytestmark = pytest.mark.browser


@pytest.fixture
def session(home: Path) -> Iterator[Session]:
    migrate(Ledger(load_settings().database))
    made = open_session()
    yield made
    made.ledger.close()


@pytest.fixture
def page() -> Iterator[Any]:
    with browser_page() as opened:
        yield opened
        assert opened.said == []


def opened(page: Any, index: Path) -> Any:
    page.goto(index.as_uri())
    page.wait_for_selector("body[data-ready=true]")
    return page


def names(page: Any) -> list[str]:
    return [element.inner_text() for element in page.query_selector_all("#list .title")]


def test_a_report_sorts_filters_steps_and_blinks(session: Session, tmp_path: Path, page: Any) -> None:
    run = made_run(session.ledger, tmp_path)
    made = write_report(session, run, tmp_path / "report")
    assert (made.shown, made.results, made.without_picture) == (10, 10, 0)
    opened(page, made.index)
    assert page.inner_text("#count") == "10 images"

    page.select_option("#filter-sort", "-p:Tuberculosis")
    assert names(page)[:2] == ["ward/<img src=x onerror=alert(1)>.png", 'ward/"><script>alert(1)<b>.png']
    assert page.query_selector("#list script, #list .title img") is None
    page.select_option("#filter-reason", "truncated")
    assert sorted(names(page)) == ["ward/x6.png", "ward/x7.png"]
    assert "Not explained (truncated): cut" in page.inner_text(".stage .missing")
    page.click("text=Clear filters")
    page.select_option("#filter-odd", "inverted")
    assert names(page) == ["ward/x2.png"]
    page.click("text=Clear filters")

    page.focus("#list")
    first = page.inner_text(".detail h2")
    page.keyboard.press("n")
    assert page.inner_text(".detail h2") == names(page)[1] != first
    page.keyboard.press("p")
    assert page.inner_text(".detail h2") == first
    page.keyboard.press("b")
    assert page.evaluate("document.querySelector('.pile .overlay').style.opacity") == "0"
    page.wait_for_function("document.querySelector('.pile .overlay').style.opacity === '1'")
    page.keyboard.press("o")
    assert page.input_value("#fade") == "0"


def test_an_image_is_listed_under_each_of_its_findings(session: Session, tmp_path: Path, page: Any) -> None:
    run = made_run(session.ledger, tmp_path)
    both = {"Normal": 0.61, "Tuberculosis": 0.97}
    with session.ledger.engine.begin() as connection:
        chosen = results.c.image_id == ids(session.ledger, run)["ward/x3.png"]
        wanted = {"class": "Tuberculosis", "probability": 0.97, "probabilities": both}
        connection.execute(update(results).where(chosen).values(wanted))
    opened(page, write_report(session, run, tmp_path / "report").index)
    for name in both:
        page.select_option("#filter-class", name)
        assert "ward/x3.png" in names(page)
    page.fill("#filter-name", "x3")
    page.wait_for_function("document.querySelectorAll('#list .row').length === 1")
    assert "Tuberculosis, Normal" in page.inner_text("#list .said")
    assert page.evaluate("document.querySelector('#list .said').scrollHeight") <= 24  # one line


def test_the_overlay_lies_upon_its_radiograph_without_its_caption(
    session: Session, tmp_path: Path, page: Any
) -> None:
    made = write_report(session, made_run(session.ledger, tmp_path), tmp_path / "report")
    opened(page, made.index)
    page.select_option("#filter-reason", "-")
    page.wait_for_function("[...document.querySelectorAll('.main img')].every(i => i.naturalWidth > 0)")
    sizes = page.evaluate(
        "[...document.querySelectorAll('.main img')].map(i => [i.naturalWidth, i.naturalHeight])"
    )
    assert sizes == [[64, 64], [64, 64]]


def test_a_score_just_below_its_threshold_does_not_contradict_its_decision(
    session: Session, tmp_path: Path, page: Any
) -> None:
    run = made_run(session.ledger, tmp_path)
    near = {"score": 27.9999972, "threshold": 28.0, "decision": "do-not-refer"}
    with session.ledger.engine.begin() as connection:
        connection.execute(update(results).where(results.c.status == "done").values(**near))
    opened(page, write_report(session, run, tmp_path / "report").index)
    assert "27.999997 < 28.000000" in page.inner_text("#list")
    facts = page.inner_text(".detail")
    assert "27.999997" in facts
    assert "28.000000" in facts


def test_everything_is_reached_without_a_mouse(session: Session, tmp_path: Path, page: Any) -> None:
    made = write_report(session, made_run(session.ledger, tmp_path), tmp_path / "report")
    opened(page, made.index)
    page.keyboard.press("f")
    page.keyboard.type("x3")
    page.wait_for_function("document.querySelectorAll('#list .row').length === 1")
    page.keyboard.press("Escape")
    page.keyboard.press("m")
    assert page.is_visible("text=Failures by reason")
    page.keyboard.press("?")
    assert page.is_visible("#help")


def test_axe_finds_nothing_in_list_summary_and_keys(session: Session, tmp_path: Path, page: Any) -> None:
    from axe_playwright_python.sync_playwright import Axe

    made = write_report(session, made_run(session.ledger, tmp_path), tmp_path / "report")
    opened(page, made.index)
    for key in ("i", "m", "?"):
        page.keyboard.press(key)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def test_the_summary_scrolls_below_its_head_and_the_page_does_not(
    session: Session, tmp_path: Path, page: Any
) -> None:
    made = write_report(session, made_run(session.ledger, tmp_path), tmp_path / "report")
    opened(page, made.index)
    page.set_viewport_size({"width": 1280, "height": 300})
    page.keyboard.press("m")
    assert page.evaluate("document.querySelector('main.summary').scrollHeight") > 300
    assert page.evaluate("document.scrollingElement.scrollHeight") == 300


def test_a_report_of_20000_images_opens_within_seconds(session: Session, tmp_path: Path, page: Any) -> None:
    made = write_report(session, made_run(session.ledger, tmp_path), tmp_path / "report")
    data = made.index.parent / "data"
    rows = (data / "rows-0001.js").read_text().removeprefix('xraycam.receive("rows",[').removesuffix("]);\n")
    for file in range(1, 41):
        (data / f"rows-{file:04d}.js").write_text(
            'xraycam.receive("rows",[' + ",".join([rows] * 50) + "]);\n"
        )
    text = (data / "run.js").read_text().replace('"files":1,', '"files":40,')
    (data / "run.js").write_text(text)
    begin = time.perf_counter()
    opened(page, made.index)
    seconds = time.perf_counter() - begin
    assert page.inner_text("#count") == "20,000 images"
    assert seconds < PATIENCE * 3.0  # 3 on a machine with nothing else to do


def test_a_report_takes_the_place_of_an_earlier_one_and_of_nothing_else(
    session: Session, tmp_path: Path
) -> None:
    run = made_run(session.ledger, tmp_path)
    folder = tmp_path / "report"
    write_report(session, run, folder)
    write_report(session, run, folder, ReportOptions(most=4))
    assert (folder / REPORT_MARKER).is_file()
    assert sorted(path.name for path in tmp_path.glob(".report*")) == []
    with pytest.raises(XraycamError, match="holds other files"):
        write_report(session, run, tmp_path / "xrays")


def test_a_limited_report_has_failures_and_the_least_certain_and_says_what_is_left_out(
    session: Session, tmp_path: Path, page: Any
) -> None:
    made = write_report(
        session, made_run(session.ledger, tmp_path), tmp_path / "report", ReportOptions(most=4)
    )
    assert (made.shown, made.results) == (4, 10)
    opened(page, made.index)
    assert sorted(names(page)) == ["ward/x4.png", "ward/x5.png", "ward/x6.png", "ward/x7.png"]
    assert page.inner_text("#notice").startswith("6 of 10 results are not in this report")


def test_two_runs_are_not_said_to_disagree_about_a_file_that_was_replaced_between_them(
    session: Session, tmp_path: Path, page: Any
) -> None:
    first = made_run(session.ledger, tmp_path)
    files = [ScannedFile(name, 10, 1000) for name in ("ward/x0.png", "ward/x1.png", "ward/x2.png")]
    second, _ = take(session.ledger, files, root=first.root, output=str(tmp_path / "again"), chunk_size=3)
    known = ids(session.ledger, first) | {
        f"2 {path}": key for path, key in ids(session.ledger, second).items()
    }
    finish(
        session.ledger,
        lease(session.ledger, second, 1),
        overlay="",
        model_version="first",
        **{"class": "Tuberculosis"},
    )
    of_file = {"ward/x0.png": "a", "2 ward/x0.png": "b", "ward/x1.png": "a", "2 ward/x1.png": "a"}
    with session.ledger.engine.begin() as connection:
        for path, sha256 in of_file.items():
            connection.execute(update(results).where(results.c.image_id == known[path]).values(sha256=sha256))
    made = write_report(session, first, tmp_path / "report", ReportOptions(other=second))
    opened(page, made.index)
    page.select_option("#filter-compare", "changed")
    assert names(page) == ["ward/x0.png"]
    assert "the file changed between the runs" in page.inner_text("#detail")
    page.select_option("#filter-compare", "differ")
    assert names(page) == ["ward/x1.png", "ward/x2.png"]
    page.select_option("#filter-compare", "agree")
    assert names(page) == []
