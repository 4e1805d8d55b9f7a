"""The server shows runs to known readers alone, keeps their reviews, and hands them on as labels."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import pytest
from PIL import Image
from rich.console import Console

from db.browse import find_result, result_mark
from db.ledger import Ledger
from db.migrate import migrate
from db.result_pages import PageQuery, read_page
from db.reviews import ExplainedAgain, Review, own_reviews, read_reviews, save_review
from db.runs import STOPPED, Run, set_state
from producer.agreement import agreement_lines
from producer.session import Session
from producer.viewer.labels import export_labels
from tests.support.installation import Installation
from tests.support.servers import free_port
from tests.viewer.pages import browser_page, explain_again, ids, made_run, wait_true
from worker.settings import load_settings


def session_of(ledger: Ledger) -> Session:
    return Session(load_settings(), ledger, Console(file=StringIO()), Console(file=StringIO()))


class Served:
    """A server of two readers over one made run; `address` by reader."""

    def __init__(self, installation: Installation, run: Run, options: list[str]) -> None:
        self.installation, self.run = installation, run
        self.port = free_port()
        process = installation.start("serve", "--port", self.port, *options)
        assert process.stdout is not None
        count = max(1, options.count("--reader"))
        lines = [process.stdout.readline() for _ in range(count)]
        self.address = dict(re.findall(r"(\w+): (http://\S+)", "".join(lines)))
        for _ in range(100):
            if self.ask("/")[0] != 0:
                break
            time.sleep(0.1)

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, str]:
        """Status and text of an answer; 0 where there is none."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self.port}{path}", data, given, method=method)
        try:
            with build_opener(_NoRedirect).open(request, timeout=20) as answer:
                return answer.status, answer.read().decode("utf-8", "replace")
        except OSError as error:
            return getattr(error, "code", 0), getattr(error, "reason", "")

    def cookie(self, reader: str) -> str:
        return f"xraycam-{self.port}={self.address[reader].partition('token=')[2]}"

    def reviews(self) -> list[Review]:
        with self.installation.ledger.read() as connection:
            return list(read_reviews(connection, self.run.id))


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *given: Any) -> None:
        return None


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Installation(tmp_path)
    migrate(made.ledger)
    run = made_run(made.ledger, tmp_path)
    yield Served(made, run, ["--reader", "first", "--reader", "second"])
    made.stop_all()


@pytest.mark.browser
def test_a_reader_marks_by_keys_and_the_second_sees_nothing_of_it(served: Served) -> None:
    with browser_page() as page:
        page.goto(served.address["first"])
        page.wait_for_selector("text=Run 1")
        assert "token" not in page.url
        page.click("text=Run 1")
        page.wait_for_selector("body[data-ready=true]")
        wait_true(page, "[...document.querySelectorAll('.main img')].every(i => i.naturalWidth > 0)")
        page.keyboard.press("d")
        page.wait_for_selector("text=Saved")
        page.keyboard.press("n")
        page.keyboard.press("u")
        wait_true(page, "document.querySelectorAll('#list .badge.review').length === 2")
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        page.select_option("#filter-reviewed", "disagree")
        wait_true(page, "document.querySelectorAll('#list .row').length === 1")
        page.goto(served.address["second"])
        page.goto(f"http://127.0.0.1:{served.port}/run/1/")
        page.wait_for_selector("body[data-ready=true]")
        assert page.query_selector("#list .badge.review") is None
        assert page.said == []
    saved = {(one.path, one.reader, one.verdict, one.class_name) for one in served.reviews()}
    assert saved == {
        ("ward/x0.png", "first", "disagree", "Tuberculosis"), ("ward/x1.png", "first", "unsure", None),
    }  # fmt: skip


def test_nobody_is_answered_without_a_token_or_under_another_name(served: Served) -> None:
    cookie = served.cookie("first")
    assert served.ask("/api/overview")[0] == 401
    assert served.ask("/api/overview", Cookie=f"xraycam-{served.port}=wrong")[0] == 401
    assert served.ask("/api/overview", Cookie=cookie)[0] == 200
    assert served.ask("/api/overview", Cookie=cookie, Host=f"evil.example:{served.port}")[0] == 421


def test_a_run_that_was_stopped_after_its_last_image_is_shown_as_complete(served: Served) -> None:
    served.installation.ledger.write(set_state, served.run.id, STOPPED)
    status, text = served.ask("/api/overview", Cookie=served.cookie("first"))
    assert (status, [run["state"] for run in json.loads(text)["runs"]]) == (200, ["complete"])


def test_a_change_needs_the_token_of_the_page_and_its_origin(served: Served) -> None:
    cookie, image = served.cookie("first"), ids(served.installation.ledger, served.run)["ward/x0.png"]
    status, text = served.ask("/api/run/1", Cookie=cookie)
    while status == 202:
        time.sleep(0.1)
        status, text = served.ask("/api/run/1", Cookie=cookie)
    token = json.loads(text)["token"]
    path, agree = f"/api/run/1/review/{image}", {"verdict": "agree"}
    assert served.ask(path, "PUT", agree, Cookie=cookie)[0] == 403
    evil = {"Origin": "http://evil.example", "x-xraycam-token": token}
    assert served.ask(path, "PUT", agree, Cookie=cookie, **evil)[0] == 403
    assert (
        served.ask(path, "PUT", {"verdict": "maybe"}, Cookie=cookie, **{"x-xraycam-token": token})[0] == 422
    )
    assert served.reviews() == []
    assert served.ask(path, "PUT", agree, Cookie=cookie, **{"x-xraycam-token": token})[0] == 204
    assert [one.verdict for one in served.reviews()] == ["agree"]


def test_only_images_of_the_run_are_shown_and_through_no_link(served: Served, tmp_path: Path) -> None:
    cookie, known = served.cookie("first"), ids(served.installation.ledger, served.run)
    assert served.ask(f"/api/run/1/original/small/{known['ward/x0.png']}", Cookie=cookie)[0] == 200
    assert served.ask("/api/run/1/original/small/999", Cookie=cookie)[0] == 404
    (tmp_path / "xrays" / "ward" / "x3.png").unlink()
    assert served.ask(f"/api/run/1/original/small/{known['ward/x3.png']}", Cookie=cookie)[0] == 404
    secret = tmp_path / "secret.png"
    (tmp_path / "xrays" / "ward" / "x1.png").rename(secret)
    (tmp_path / "xrays" / "ward" / "x1.png").symlink_to(secret)
    assert served.ask(f"/api/run/1/original/small/{known['ward/x1.png']}", Cookie=cookie)[0] == 404
    assert served.ask("/assets/../../../app.py", Cookie=cookie)[0] == 404


def fetched(served: Served, path: str, tag: str = "") -> tuple[int, str, bytes]:
    """Status, ETag and content of a picture; `tag`: of what a browser keeps of it."""
    headers = {"Cookie": served.cookie("first"), "If-None-Match": tag}
    request = Request(f"http://127.0.0.1:{served.port}{path}", None, headers)
    try:
        with build_opener(_NoRedirect).open(request, timeout=20) as answer:
            return answer.status, answer.headers["etag"], answer.read()
    except HTTPError as error:
        return error.code, error.headers["etag"] or "", error.read()


def test_no_picture_of_an_earlier_result_is_shown_beside_a_new_one(served: Served) -> None:
    ledger, run = served.installation.ledger, served.run
    image = ids(ledger, run)["ward/x0.png"]
    explain_again(ledger, run, "ward/x0.png", "Tuberculosis", 48)
    rows = json.loads(served.ask("/api/run/1/rows", Cookie=served.cookie("first"))[1])["rows"]
    (mark,) = (row["mark"] for row in rows if row["id"] == image)
    paths = [f"/api/run/1/{kind}/small/{image}" for kind in ("original", "overlay")]
    before = [fetched(served, path) for path in paths]
    assert [status for status, _, _ in before] == [200, 200]
    assert [fetched(served, path, tag)[0] for path, (_, tag, _) in zip(paths, before, strict=True)] == [
        304,
        304,
    ]
    explain_again(ledger, run, "ward/x0.png", "Normal", 40)
    for path, (_, tag, content) in zip(paths, before, strict=True):
        status, again, shown = fetched(served, path, tag)
        assert (status, again != tag, shown != content) == (200, True, True)
        status, _, said = fetched(served, f"{path}?of={mark}", tag)
        assert (status, b"explained again" in said) == (409, True)


def test_an_overlay_in_other_colours_is_shown_at_once(served: Served) -> None:
    image = ids(served.installation.ledger, served.run)["ward/x0.png"]
    path = f"/api/run/1/overlay/small/{image}"
    _, tag, content = fetched(served, path)
    Image.new("RGB", (64, 80), "teal").save(Path(served.run.output) / "ward" / "x0.png.jpg")
    status, _, shown = fetched(served, path, tag)
    assert (status, shown != content) == (200, True)


@pytest.mark.browser
def test_a_page_loaded_again_shows_the_pictures_of_the_new_result(served: Served) -> None:
    ledger, run = served.installation.ledger, served.run
    width = "document.querySelector('.main img.{}')?.naturalWidth"
    with browser_page() as page:
        page.goto(served.address["first"])
        page.click("text=Run 1")
        for kind in ("original", "overlay"):
            wait_true(page, f"{width.format(kind)} === 64")
        explain_again(ledger, run, "ward/x0.png", "Tuberculosis", 40)
        page.reload()
        for kind in ("original", "overlay"):
            wait_true(page, f"{width.format(kind)} === 40")
        explain_again(ledger, run, "ward/x1.png", "Tuberculosis", 40)
        page.keyboard.press("n")
        page.wait_for_selector("text=was explained again since this page was loaded")
        assert page.said == []


def test_the_reader_is_whom_the_proxy_names_and_nobody_without(tmp_path: Path) -> None:
    made = Installation(tmp_path)
    migrate(made.ledger)
    served = Served(made, made_run(made.ledger, tmp_path), ["--behind-proxy", "X-Remote-User"])
    try:
        assert served.ask("/api/overview")[0] == 403
        assert served.ask("/api/overview", X_Remote_User="anybody")[0] == 200
    finally:
        made.stop_all()


def test_labels_on_which_readers_agree_become_a_folder(served: Served, tmp_path: Path) -> None:
    ledger, known = served.installation.ledger, ids(served.installation.ledger, served.run)
    for path, reader, verdict, name in (
        ("ward/x0.png", "first", "agree", None), ("ward/x0.png", "second", "agree", None),
        ("ward/x5.png", "first", "agree", None), ("ward/x5.png", "second", "disagree", "Normal"),
        ("ward/x1.png", "first", "disagree", "Tuberculosis"), ("ward/x2.png", "first", "unsure", None),
    ):  # fmt: skip
        ledger.write(save_review, served.run.id, known[path], reader, verdict, name, None)
    said = served.installation.xraycam("export-labels", 1, "--output", tmp_path / "labels").stdout
    assert "left out: 1 (readers name different classes)" in said
    found = sorted(
        str(path.relative_to(tmp_path / "labels")) for path in (tmp_path / "labels").rglob("*.png")
    )
    assert found == ["Normal/ward/x0.png", "Tuberculosis/ward/x1.png"]
    said = served.installation.xraycam("results", 1).stdout
    assert "readers first and second: agree on 1 of 2 images, Cohen's kappa 0.00" in said
    assert "model against first, Normal: sensitivity 1.00 (1 of 1), specificity 0.50 (1 of 2)" in said


def test_who_says_what_it_is_not_counts_against_the_model_and_agrees_with_nobody(
    ledger: Ledger, tmp_path: Path
) -> None:
    run = made_run(ledger, tmp_path)
    session, known = session_of(ledger), ids(ledger, run)
    for path, reader, verdict in (
        ("ward/x0.png", "first", "agree"), ("ward/x0.png", "second", "disagree"),
        ("ward/x1.png", "first", "agree"), ("ward/x1.png", "second", "unsure"),
        ("ward/x2.png", "first", "agree"), ("ward/x2.png", "second", "agree"),
        ("ward/x3.png", "first", "disagree"),
    ):  # fmt: skip
        ledger.write(save_review, run.id, known[path], reader, verdict, None, None)
    said = list(agreement_lines(session, run))
    assert "model against first, Normal: sensitivity 1.00 (3 of 3), specificity 0.00 (0 of 1)" in said
    assert "model against second, Normal: sensitivity 1.00 (1 of 1), specificity 0.00 (0 of 1)" in said
    assert "2 reviews against the model, without a class: left out of sensitivity, which may be lower" in said
    assert "left out: 1 review (unsure)" in said
    assert list(export_labels(session, run, tmp_path / "labels.csv"))[:-1] == [
        "Normal: 1", "left out: 3 (a reader named no class, or is unsure)",
    ]  # fmt: skip


@pytest.mark.parametrize("note", ['=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "\t=1"])
def test_a_note_is_no_formula_in_the_table_of_labels(ledger: Ledger, tmp_path: Path, note: str) -> None:
    run = made_run(ledger, tmp_path)
    ledger.write(save_review, run.id, ids(ledger, run)["ward/x0.png"], "first", "agree", None, note)
    list(export_labels(session_of(ledger), run, tmp_path / "labels.csv"))
    with (tmp_path / "labels.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["notes"] == f"'{note}"


def test_a_run_that_readers_only_deny_has_a_specificity(ledger: Ledger, tmp_path: Path) -> None:
    run = made_run(ledger, tmp_path)
    ledger.write(save_review, run.id, ids(ledger, run)["ward/x0.png"], "first", "disagree", None, None)
    said = list(agreement_lines(session_of(ledger), run))
    assert said[0] == "model against first, Normal: specificity 0.00 (0 of 1)"


def test_a_review_of_a_file_that_was_replaced_is_left_out_and_said(ledger: Ledger, tmp_path: Path) -> None:
    run = made_run(ledger, tmp_path)
    session = session_of(ledger)
    explain_again(ledger, run, "ward/x0.png", "Tuberculosis", 40)
    image = ids(ledger, run)["ward/x0.png"]
    for reader in ("first", "second"):
        ledger.write(save_review, run.id, image, reader, "agree", None, None)
    assert [line for line in agreement_lines(session, run) if "agree on" in line]
    explain_again(ledger, run, "ward/x0.png", "Normal", 48)
    assert list(export_labels(session, run, tmp_path / "labels.csv"))[:-1] == [
        "left out: 1 (the file has changed since it was reviewed)"
    ]
    assert list(agreement_lines(session, run)) == [
        "left out: 2 reviews (the file has changed since it was reviewed)"
    ]
    ledger.write(save_review, run.id, image, "first", "disagree", "Tuberculosis", None)
    assert list(export_labels(session, run, tmp_path / "again.csv"))[:-1] == ["Tuberculosis: 1"]


def test_what_a_reader_agreed_with_stays_though_the_model_says_something_else(
    ledger: Ledger, tmp_path: Path
) -> None:
    run = made_run(ledger, tmp_path)
    image = ids(ledger, run)["ward/x0.png"]
    explain_again(ledger, run, "ward/x0.png", "Tuberculosis", 40)
    ledger.write(save_review, run.id, image, "first", "agree", None, None)
    explain_again(ledger, run, "ward/x0.png", "Normal", 40)  # of the same content
    said = list(export_labels(session_of(ledger), run, tmp_path / "labels"))
    assert said[:-1] == ["Tuberculosis: 1"]
    assert "model against first, Tuberculosis: sensitivity 0.00 (0 of 1)" in list(
        agreement_lines(session_of(ledger), run)
    )
    with ledger.read() as connection:
        (own,) = own_reviews(connection, "first", [image]).values()
        found = {
            wanted: {row["id"] for row in read_page(connection, run.id, query, None).rows}
            for wanted in ("no", "yes", "agree")
            for query in [PageQuery(reviewed=wanted, reader="first")]
        }
    assert own["outdated"] == "the model said Tuberculosis then"
    assert (image in found["no"], found["yes"], found["agree"]) == (True, set(), set())


def test_a_review_of_a_result_that_is_no_more_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    run = made_run(ledger, tmp_path)
    image = ids(ledger, run)["ward/x0.png"]

    def mark() -> str:
        with ledger.read() as connection:
            row = find_result(connection, run.id, image)
        assert row is not None
        return result_mark(row)

    seen = mark()
    explain_again(ledger, run, "ward/x0.png", "Tuberculosis", 40)
    with pytest.raises(ExplainedAgain, match="load it again"):
        ledger.write(save_review, run.id, image, "first", "agree", None, None, seen)
    ledger.write(save_review, run.id, image, "first", "agree", None, None, mark())


@pytest.mark.browser
def test_the_page_says_that_a_review_is_of_another_file(served: Served) -> None:
    ledger, run = served.installation.ledger, served.run
    pressed = "document.querySelectorAll('.review button[aria-pressed=true]').length"
    with browser_page() as page:
        page.goto(served.address["first"])
        page.click("text=Run 1")
        page.wait_for_selector("body[data-ready=true]")
        page.keyboard.press("a")
        page.wait_for_selector("text=Saved")
        explain_again(ledger, run, "ward/x0.png", "Tuberculosis", 40)
        page.keyboard.press("a")
        page.wait_for_selector("text=Not saved: the image was explained again")
        page.reload()
        page.wait_for_selector("text=does not count here: the file has changed since. Review it again.")
        page.wait_for_selector("#list .badge.review:text('review outdated')")
        assert page.evaluate(pressed) == 0
        page.keyboard.press("d")
        page.wait_for_selector("text=Saved")
        wait_true(page, f"{pressed} === 1")
        assert page.said == []
    assert [(one.label, one.is_outdated) for one in served.reviews()] == [("Normal", False)]


def test_a_verdict_that_contradicts_its_class_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    run = made_run(ledger, tmp_path)
    known = ids(ledger, run)
    for verdict, name in (("agree", "Tuberculosis"), ("disagree", "Normal")):
        with pytest.raises(ValueError, match="contradict"):
            ledger.write(save_review, run.id, known["ward/x0.png"], "first", verdict, name, None)
