"""The server's routes: runs, workers and trainings; a run's pages, pictures and reviews."""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from db.browse import find_result, result_mark
from db.errors import LedgerError, RunNotFound
from db.result_pages import PAGE, SORTS, Key, PageQuery, read_page
from db.reviews import ExplainedAgain, own_reviews, remove_review, save_review
from db.runs import Run, get_run, list_runs, progress, shown_state
from db.trainings import list_trainings
from db.workers import list_workers
from producer.run_findings import findings_of
from producer.session import Session
from producer.viewer.facts import run_facts
from producer.viewer.pages import PAGES, RUNS_SCRIPTS, SERVE_SCRIPTS, page
from producer.viewer.rows import shown_row
from producer.viewer.security import Access, Guard
from producer.viewer.thumbnails import RunPictures
from worker.errors import XraycamError
from worker.file_names import printable
from worker.images.reader import limits_of

SIZES = {"small": 96, "large": 1024}
CACHE_BYTES = 128_000_000
LARGEST_BODY = 64_000
# Counting a run takes a thread as long as it takes; it is counted again after so many times that.
_REST = 10.0


class PictureCache:
    """The pictures made last, `most` bytes of them together."""

    def __init__(self, most: int = CACHE_BYTES) -> None:
        self._most, self._size = most, 0
        self._kept: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...]) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: tuple[Any, ...], content: bytes) -> None:
        with self._lock:
            self._size += len(content) - len(self._kept.pop(key, b""))
            self._kept[key] = content
            while self._size > self._most and self._kept:
                self._size -= len(self._kept.popitem(last=False)[1])


class FactsCache:
    """What is told of each run, counted beside the requests, so that none waits for a million rows."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[int, tuple[float, dict[str, Any]]] = {}
        self._counting: set[int] = set()
        self._lock = threading.Lock()

    def get(self, run: Run) -> dict[str, Any] | None:
        """The facts as counted last, None before that; counts anew in a thread where they are old."""
        with self._lock:
            expires, facts = self._known.get(run.id, (0.0, None))
            if time.monotonic() > expires and run.id not in self._counting:
                self._counting.add(run.id)
                threading.Thread(target=self._count, args=(run,), daemon=True).start()
        return facts

    def _count(self, run: Run) -> None:
        begin = time.monotonic()
        try:
            facts = run_facts(self._session, run)
            end = time.monotonic()
            with self._lock:
                self._known[run.id] = (end + max(5.0, _REST * (end - begin)), facts)
        except (LedgerError, XraycamError) as error:
            self._session.tell(f"run {run.id} cannot be counted: {error}")
        finally:
            with self._lock:
                self._counting.discard(run.id)


class Viewer:
    """The handlers, each a method; those that ask the ledger run in threads."""

    def __init__(self, session: Session, access: Access) -> None:
        self._session, self._access = session, access
        self._ledger = session.ledger
        self._pictures = PictureCache()
        self._facts = FactsCache(session)

    def routes(self) -> list[Route | Mount]:
        return [
            Route("/", lambda _: HTMLResponse(page("runs.html", "/assets/", RUNS_SCRIPTS))),
            Route("/run/{run:int}/", lambda _: HTMLResponse(page("report.html", "/assets/", SERVE_SCRIPTS))),
            Route("/run/{run:int}", lambda request: RedirectResponse(f"/run/{request.path_params['run']}/")),
            Route("/api/overview", self.overview),
            Route("/api/run/{run:int}", self.run),
            Route("/api/run/{run:int}/rows", self.rows),
            Route("/api/run/{run:int}/review/{image:int}", self.review, methods=["PUT", "DELETE"]),
            Route("/api/run/{run:int}/{kind}/{size}/{image:int}", self.picture),
            Mount("/assets", StaticFiles(directory=PAGES)),
        ]

    def overview(self, request: Request) -> Response:
        """The newest runs with their progress, workers and trainings."""
        shown = []
        for run in self._ledger.query(list_runs):
            found = self._ledger.query(progress, run.id)
            counts = {"images": found.images, "done": found.done, "failed": found.failed}
            state, created = shown_state(run, found), run.created_at.isoformat(timespec="seconds")
            shown.append(
                counts | {"id": run.id, "root": printable(run.asked), "state": state, "created": created}
            )
        workers = [
            {"name": one.name, "device": one.device, "model": one.model_version, "live": one.is_live,
             "activity": one.activity, "error": one.last_error}
            for one in self._ledger.query(list_workers)
        ]  # fmt: skip
        trainings = [
            {"id": one.id, "dataset": printable(one.dataset), "state": one.state, "stage": one.stage,
             "epoch": one.epoch, "epochs": one.epochs, "auc": one.val_auc, "eta": one.eta_seconds}
            for one in self._ledger.query(list_trainings, 20)
        ]  # fmt: skip
        return JSONResponse({"runs": shown, "workers": workers, "trainings": trainings})

    def run(self, request: Request) -> Response:
        """The facts of a run and of the reader; 202 while they are counted for the first time."""
        facts = self._facts.get(self._run(request))
        if facts is None:
            return JSONResponse({"counting": True}, 202)
        reader = request.state.reader
        return JSONResponse(facts | {"reader": reader, "token": self._access.csrf_token(reader)})

    def rows(self, request: Request) -> Response:
        """A page of rows with the reader's own reviews, and where the next page begins."""
        run, reader = self._run(request), request.state.reader
        given = request.query_params
        try:
            query = self._of_finding(run, _query(given, reader))
            after = _after(given.get("after"))
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        with self._ledger.read() as connection:
            found = read_page(connection, run.id, query, after)
            own = own_reviews(connection, reader, [row["id"] for row in found.rows])
        rows = [
            shown_row(row)
            | {"mark": result_mark(row)}
            | ({"review": own[row["id"]]} if row["id"] in own else {})
            for row in found.rows
        ]
        after_text = None if found.after is None else _after_text(found.after)
        return JSONResponse({"rows": rows, "after": after_text, "page": PAGE})

    def picture(self, request: Request) -> Response:
        """The radiograph or overlay of an image of the run, as WebP. With `of`, the mark of a result: 409
        where the image has another one, so that a page shows no picture of a result that it does not show."""
        kind, size = request.path_params["kind"], request.path_params["size"]
        if kind not in ("original", "overlay") or size not in SIZES:
            raise HTTPException(404)
        run, image = self._run(request), request.path_params["image"]
        row = self._result(run, image)
        mark = result_mark(row)
        if request.query_params.get("of", mark) != mark:
            return self._explained_again(row)
        pictures = RunPictures(run, limits_of(self._session.settings))
        written = pictures.overlay_mark(row) if kind == "overlay" else ""
        key = (run.id, image, kind, size, mark, written)
        tag = f'"{hashlib.sha256(repr(key).encode()).hexdigest()[:32]}"'
        # Asked for again each time, and sent only if it is another: an overlay may be written again.
        headers = {"cache-control": "private, no-cache", "etag": tag}
        content = self._pictures.get(key)
        if content is None:
            try:
                draw = pictures.original if kind == "original" else pictures.overlay
                made = draw(row, SIZES[size])
            except XraycamError as error:
                return PlainTextResponse(printable(str(error)), 404)
            if made.note is not None:
                return PlainTextResponse(f"{printable(row['path'])}: {made.note}", 409)
            if result_mark(self._result(run, image)) != mark:
                return self._explained_again(row)  # and the picture may be the new one
            content = made.content
            self._pictures.put(key, content)
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="image/webp", headers=headers)

    def _result(self, run: Run, image: int) -> dict[str, Any]:
        with self._ledger.read() as connection:
            row = find_result(connection, run.id, image)
        if row is None or row["status"] != "done":
            raise HTTPException(404, "no such picture")
        return row

    def _explained_again(self, row: dict[str, Any]) -> Response:
        return PlainTextResponse(
            f"{printable(row['path'])}: was explained again since this page was loaded; load it again", 409
        )

    async def review(self, request: Request) -> Response:
        """Save (PUT) or take back (DELETE) the reader's own review of an image."""
        image, reader = request.path_params["image"], request.state.reader
        run = await run_in_threadpool(self._run, request)
        if request.method == "DELETE":
            await run_in_threadpool(self._ledger.write, remove_review, run.id, image, reader)
            return Response(status_code=204)
        if int(request.headers.get("content-length", LARGEST_BODY + 1)) > LARGEST_BODY:
            raise HTTPException(413, "a review is smaller than that")
        try:
            given = json.loads(await request.body())
            fields = ("verdict", "class", "note", "seen")
            verdict, class_name, note, seen = (given.get(name) or None for name in fields)
            if not all(isinstance(one, str | None) for one in (verdict, class_name, note, seen)):
                raise ValueError("verdict, class, note and seen are texts")
            await run_in_threadpool(
                self._ledger.write, save_review, run.id, image, reader, verdict or "", class_name, note, seen
            )
        except ExplainedAgain as error:
            raise HTTPException(409, str(error)) from None
        except (ValueError, AttributeError) as error:
            raise HTTPException(422, str(error)) from None
        return Response(status_code=204)

    def _of_finding(self, run: Run, query: PageQuery) -> PageQuery:
        """The query, if it names a finding, for all that have it, not only as the most probable one."""
        if query.class_name is None:
            return query
        facts = self._facts.get(run)
        findings = findings_of(self._session, run) if facts is None else facts["findings"]
        return replace(query, is_finding=query.class_name in findings)

    def _run(self, request: Request) -> Run:
        try:
            return self._ledger.query(get_run, request.path_params["run"])
        except RunNotFound:
            raise HTTPException(404, "no such run") from None


def make_app(session: Session, access: Access) -> Starlette:
    """The server's application. `access` says whom it answers."""
    viewer = Viewer(session, access)
    return Starlette(routes=viewer.routes(), middleware=[Middleware(Guard, access=access)],
                     exception_handlers={LedgerError: _ledger_away})  # fmt: skip


async def _ledger_away(request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), 503)


def _query(given: Any, reader: str) -> PageQuery:
    """The page asked for. Raises ValueError for what cannot be."""
    order = given.get("sort") or "id"
    sort = order.removeprefix("-")
    if sort not in SORTS:
        raise ValueError(f"rows are sorted by {', '.join(SORTS)}")
    reason = given.get("reason") or ""
    if reason not in ("", "-"):
        sort = "id"
    corner = given.get("corner")
    return PageQuery(
        sort=sort,
        descending=order.startswith("-"),
        status="failed" if reason not in ("", "-") else "done",
        class_name=given.get("class") or None,
        decision=given.get("decision") or None,
        reason=reason if reason not in ("", "-", "*") else None,
        odd=given.get("odd") or None,
        corner=float(corner) if corner else None,
        name=given.get("name") or None,
        reviewed=given.get("reviewed") or None,
        reader=reader,
    )


def _after(given: str | None) -> Key | None:
    if not given:
        return None
    value, _, image = given.partition(",")
    key = (float(value) if value else None, int(image))
    if not math.isfinite(key[0] or 0.0) or not 0 <= key[1] < 2**63:
        raise ValueError("no such place in the list")
    return key


def _after_text(key: Key) -> str:
    value, image = key
    return f"{'' if value is None else repr(value)},{image}"
