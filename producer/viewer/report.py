"""A run as a folder of pages that opens from disk in any browser: `index.html`, data and thumbnails."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from db.browse import report_rows, results_by_path
from db.runs import Run
from producer.session import Session
from producer.viewer.facts import run_facts
from producer.viewer.pages import ASSETS, PAGES, REPORT_SCRIPTS, page
from producer.viewer.rows import shown_row
from producer.viewer.thumbnails import RunPictures, Thumbnail, is_strip
from worker.errors import XraycamError
from worker.images.reader import limits_of
from worker.our_folders import REPORT_MARKER
from worker.remote.urls import is_remote
from worker.safe_files import apply_umask

MOST_IMAGES = 20_000
ROWS_A_FILE = 500
PICTURE_SIZE = 512
# They wait for the storage most of the time.
_REMOTE_THREADS = 16


@dataclass(frozen=True)
class Report:
    """A report that was made. `shown` of `results` are in it; `without_picture` of them lack a picture."""

    index: Path
    shown: int
    results: int
    without_picture: int


@dataclass(frozen=True)
class ReportOptions:
    """`most`: images at most. `size`: longest side of a picture in pixels. `other`: a run to compare with."""

    most: int = MOST_IMAGES
    size: int = PICTURE_SIZE
    other: Run | None = None


def report_folder(home: Path, run: Run, other: Run | None = None) -> Path:
    """Where a report is written unless told otherwise: beside the run's overlays; in our `home` where these
    are in an object store, from which no browser opens a folder."""
    name = f"xraycam-report{'' if other is None else f'-with-run-{other.id}'}"
    if is_remote(run.output):
        return home / "reports" / f"run-{run.id:06d}" / name
    return Path(run.output) / name


def write_report(
    session: Session,
    run: Run,
    folder: Path,
    options: ReportOptions | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write the report of `run` as `folder`, atomically; an earlier report there is replaced.

    `on_progress` is given the images written and those to write. Memory does not grow with the run. Raises
    XraycamError for a folder that holds something else or cannot be written.
    """
    options = options or ReportOptions()
    _require_ours(folder)
    facts = run_facts(session, run)
    results = facts["images"]["done"] + facts["images"]["failed"]
    to_write = min(results, options.most)
    with _replacing(folder) as building:
        writer = _Writer(session, run, building, options)
        for count in writer.write_rows():
            if on_progress is not None:
                on_progress(count, to_write)
        facts |= {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": writer.files,
            "shown": writer.shown,
            "left_out": _left_out(results, writer.shown, facts["images"]["pending"]),
        }
        if options.other is not None:
            facts["other"] = run_facts(session, options.other)
        _write_data(building / "data" / "run.js", "run", facts)
        assets = building / "assets"
        assets.mkdir()
        for name in ASSETS:
            shutil.copyfile(PAGES / name, assets / name)
        (building / "index.html").write_text(page("report.html", "assets/", REPORT_SCRIPTS), encoding="utf-8")
        marker = {"run": run.id, "made": facts["made"]}
        (building / REPORT_MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")
    return Report(folder / "index.html", writer.shown, results, writer.without_picture)


def _left_out(results: int, shown: int, pending: int) -> str:
    """What is not in the report, in words; empty: nothing."""
    words = []
    if shown < results:
        words.append(
            f"{results - shown:,} of {results:,} results are not in this report: shown are failures, and the "
            "images about which the model is least certain"
        )
    if pending > 0:
        words.append(f"{pending:,} {'image has' if pending == 1 else 'images have'} no result yet")
    return "; ".join(words)


class _Writer:
    """Writes the rows of a run, in files of `ROWS_A_FILE`, and their pictures."""

    def __init__(self, session: Session, run: Run, folder: Path, options: ReportOptions) -> None:
        self.files = 0
        self.shown = 0
        self.without_picture = 0
        self._session, self._run, self._folder, self._options = session, run, folder, options
        limits = limits_of(session.settings)
        self._pictures = RunPictures(run, limits)
        self._other = None if options.other is None else RunPictures(options.other, limits)
        (folder / "data").mkdir()

    def write_rows(self) -> Iterator[int]:
        """Write all; yields how many images are written so far."""
        with self._session.ledger.read() as connection:
            rows = report_rows(connection, self._run.id, self._options.most)
            threads = self._session.settings.worker_threads
            if is_remote(self._run.root) or is_remote(self._run.output):
                threads = max(threads, _REMOTE_THREADS)
            with ThreadPoolExecutor(threads, thread_name_prefix="thumbnail") as pool:
                while batch := list(islice(rows, ROWS_A_FILE)):
                    self.files += 1
                    place = f"pictures/{self.files:04d}"
                    (self._folder / place).mkdir(parents=True)
                    others = self._others([row["path"] for row in batch])
                    written: list[dict[str, Any]] = []
                    jobs = ((self._entry, row, others.get(row["path"]), place) for row in batch)
                    for entry in _in_order(pool, jobs, 4 * threads):
                        written.append(entry)
                        self.shown += 1
                        self.without_picture += "without" in entry
                        yield self.shown
                    _write_data(self._folder / "data" / f"rows-{self.files:04d}.js", "rows", written)

    def _others(self, paths: list[str]) -> dict[str, dict[str, Any]]:
        if self._options.other is None:
            return {}
        with self._session.ledger.read() as connection:
            return results_by_path(connection, self._options.other.id, paths)

    def _entry(self, row: dict[str, Any], other: dict[str, Any] | None, place: str) -> dict[str, Any]:
        """A row as the page has it, its pictures written."""
        entry = shown_row(row)
        if row["status"] == "done":
            if not is_strip(row):
                self._draw(entry, "original", row, self._pictures.original, place)
            self._draw(entry, "overlay", row, self._pictures.overlay, place)
        if other is not None:
            assert self._other is not None
            entry["other"] = shown_row(other)
            if other["status"] == "done":
                self._draw(entry["other"], "overlay", other, self._other.overlay, place)
        return entry

    def _draw(
        self,
        entry: dict[str, Any],
        kind: str,
        row: dict[str, Any],
        draw: Callable[[dict[str, Any], int], Thumbnail],
        place: str,
    ) -> None:
        try:
            picture = draw(row, self._options.size)
        except XraycamError as error:
            entry.setdefault("without", []).append(f"{kind}: {error}")
            return
        name = f"{place}/{row['id']}-{kind}.webp"
        (self._folder / name).write_bytes(picture.content)
        entry[kind] = name
        if picture.note is not None:
            entry["note"] = picture.note


def _in_order(
    pool: ThreadPoolExecutor, jobs: Iterable[tuple[Any, ...]], ahead: int
) -> Iterator[dict[str, Any]]:
    """The results of `function(*arguments)`, of which `ahead` are computed at once at most."""
    waiting: deque[Future[dict[str, Any]]] = deque()
    for function, *arguments in jobs:
        waiting.append(pool.submit(function, *arguments))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _write_data(file: Path, kind: str, data: Any) -> None:
    """A script that hands `data` to the page: a page opened from disk may read no other files."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    file.write_text(f'xraycam.receive("{kind}",{text});\n', encoding="ascii")


def _require_ours(folder: Path) -> None:
    """Raises XraycamError where `folder` is something else than an earlier report, or an empty folder."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink() or not folder.is_dir():
        raise XraycamError(f"{folder} is not a folder; name a new one for the report")
    if any(folder.iterdir()) and not (folder / REPORT_MARKER).is_file():
        raise XraycamError(f"{folder} holds other files; name a new or empty folder for the report")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A folder to fill that replaces `folder` if the block succeeds, and is removed if not."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            yield building
            apply_umask(building)
            if folder.exists():
                replaced = building / "replaced"
                folder.rename(replaced)
                # A folder cannot take the place of one that is not empty: the old one waits inside the new.
                building.rename(folder)
                building = folder / "replaced"
            else:
                building.rename(folder)
        finally:
            with suppress(OSError):
                shutil.rmtree(building)
    except OSError as error:
        raise XraycamError(
            f"{folder} cannot be written: {error.strerror or error}; name another with --output"
        ) from error
