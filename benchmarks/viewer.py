"""How long the server's pages take over a run of a million images, while workers write another run.

    python -m benchmarks.viewer                          # SQLite
    python -m benchmarks.viewer --postgres               # a Postgres of its own
    python -m benchmarks.viewer --images 100000

Rows exist in the ledger alone, one in a hundred failed. Each kind of page is asked for 20 times, from its
beginning or from somewhere in the middle, as the server reads it, without a network.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, text, update

from benchmarks.ledger import BATCH, CHUNK, CLASSES, at, fill, path_of, row_of
from db.dialect import now
from db.leases import Lease, lease_chunk, record_results
from db.ledger import Ledger
from db.migrate import migrate
from db.result_pages import PageQuery, read_page
from db.reviews import own_reviews
from db.runs import get_run
from db.schema import chunks, images, results
from producer.viewer.rows import shown_row

PAGES = {
    "order of the run": PageQuery(),
    "score, highest first": PageQuery(sort="score", descending=True),
    "least certain first": PageQuery(sort="probability"),
    "heat in corners": PageQuery(sort="corner", descending=True),
    "one class by score": PageQuery(sort="score", descending=True, class_name=CLASSES[1]),
    "failed, one reason": PageQuery(status="failed", reason="truncated"),
    "odd (one in 1,000) by score": PageQuery(sort="score", odd="inverted"),
    "not there at all": PageQuery(sort="score", odd="upside-down"),
    "part of a name": PageQuery(name="patient-00099"),
    "not yet reviewed": PageQuery(sort="score", reviewed="no", reader="first"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--images", type=int, default=1_000_000)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xraycam-viewer-")))
        url = f"sqlite:///{folder / 'ledger.sqlite3'}"
        if given.postgres:
            from tests.support.servers import Postgres

            server = Postgres()
            stack.callback(server.remove)
            server.start()
            url = server.new_database()
        ledger = Ledger(url)
        migrate(ledger)
        begin = time.perf_counter()
        run = fill_done(ledger, url, given.images)
        if given.postgres:
            # As autovacuum does a minute later.
            ledger.write(lambda connection: connection.execute(text("ANALYZE")))
        print(f"{given.images:,} rows in {time.perf_counter() - begin:.0f} s", flush=True)
        stop = threading.Event()
        writer = threading.Thread(target=write, args=(url, stop))
        writer.start()
        try:
            measure(ledger, run)
        finally:
            stop.set()
            writer.join()


def fill_done(ledger: Ledger, url: str, count: int) -> int:
    """A run of so many images with results; its number."""
    run = fill(url, "done", count)
    with ledger.read() as connection:
        first = connection.execute(select(images.c.id).where(images.c.run_id == run).limit(1)).scalar_one()
    for start in range(0, count, BATCH):
        rows = [result_of(first + number, run, number) for number in range(start, min(start + BATCH, count))]
        ledger.write(insert_results, rows)
    ledger.write(
        lambda connection: connection.execute(
            update(chunks).where(chunks.c.run_id == run).values(done=chunks.c.images, finished_at=now())
        )
    )
    return run


def insert_results(connection: Connection, rows: list[dict[str, Any]]) -> None:
    connection.execute(insert(results), rows)


def result_of(image_id: int, run: int, number: int) -> dict[str, Any]:
    chance = random.Random(number)
    share = chance.random()
    row: dict[str, Any] = {
        "image_id": image_id, "run_id": run, "status": "done", "reason": None, "error": None,
        "sha256": f"{number:064x}", "width": 2048, "height": 2500, "class": CLASSES[share > 0.5],
        "probability": max(share, 1 - share), "probabilities": {CLASSES[0]: 1 - share, CLASSES[1]: share},
        "score": 100 * share, "threshold": 50.0, "decision": "refer" if share > 0.5 else "do-not-refer",
        "odd": "inverted" if number % 1000 == 7 else "", "target_class": CLASSES[1], "logit": share,
        "layer": "block_12_add", "method": "gradcam", "heatmap_max": {"block_12_add": share},
        "cam_border_fraction": chance.random(), "cam_corner_fraction": chance.random(), "blank": False,
        "overlay": f"/overlays/run-000001/{path_of(number)}.jpg", "model_version": "first", "worker": "one",
        "attempts": 1, "finished_at": datetime.now(UTC),
    }  # fmt: skip
    if number % 100 == 3:
        row |= dict.fromkeys(("class", "probability", "probabilities", "score", "decision", "odd", "overlay"))
        row |= {"status": "failed", "reason": "truncated", "error": "cut short", "cam_corner_fraction": None}
    return row


def write(url: str, stop: threading.Event) -> None:
    """Record results as workers do, 2,000 a second, until told to stop."""
    ledger = Ledger(url)
    number = 0
    run = fill(url, "open", 400 * CHUNK)
    ledger.query(get_run, run)
    while not stop.is_set() and number < 400:
        number += 1
        lease = ledger.write(lease_chunk, run, number, "one", 60.0)
        assert isinstance(lease, Lease)
        ledger.write(record_results, lease, [row_of(image, "one") for image in lease.images])
        time.sleep(CHUNK / 2_000)


def measure(ledger: Ledger, run: int) -> None:
    print(f"{'page':<30}{'p50':>8}{'max':>8} ms   rows", flush=True)
    for name, query in PAGES.items():
        seconds, count, after = [], 0, None
        for turn in range(20):
            begin = time.perf_counter()
            with ledger.read() as connection:
                page = read_page(connection, run, query, after)
                own_reviews(connection, "first", [row["id"] for row in page.rows])
            shown = [shown_row(row) for row in page.rows]
            seconds.append(time.perf_counter() - begin)
            count, after = count + len(shown), page.after if turn % 5 else None
        seconds.sort()
        print(f"{name:<30}{at(seconds, 0.5) * 1000:>8.1f}{seconds[-1] * 1000:>8.1f}      {count}", flush=True)


if __name__ == "__main__":
    main()
