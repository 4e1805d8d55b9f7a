"""What queue and database cost: images/s through them, divided by images/s of the same stages without.

    python -m benchmarks.throughput ../shared/data/shenzhen
    python -m benchmarks.throughput                          # 256 synthetic X-rays of 512 x 512 pixels

Real parts: a private Valkey server, a SQLite ledger, worker processes as `xraycam run` starts them. Both
ways are measured in turn, warm, with the same settings; the median of the ratios is the figure.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from db import runs
from db.ledger import Ledger
from db.migrate import migrate
from db.workers import list_workers
from producer.enqueue import Request, enqueue
from producer.local_run import LocalWorkers, local_workers
from producer.phantoms import make_phantoms
from producer.publish import publish_chunks
from worker.explain.options import ExplainOptions
from worker.model.store import ensure_current_model, store_of
from worker.settings import Settings


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--pairs", default=3, show_default=True, help="How often both ways are measured.")
def main(folder: Path | None, pairs: int) -> None:
    """Measure the cost of queue and database on the X-rays of FOLDER."""
    work = Path(tempfile.mkdtemp(prefix="xraycam-throughput-"))
    try:
        if folder is None:
            folder = work / "xrays"
            make_phantoms(folder, 256, seed=1)
        settings = Settings(home=work / "home")
        ledger = Ledger(settings.database)
        migrate(ledger)
        model = ensure_current_model(ledger, store_of(settings))
        model_folder = store_of(settings).fetch(model.version, model.digest)
        print("pair  in process  through the queue  ratio")
        ratios = []
        with ready_fleet(settings, ledger) as fleet:
            through_queue(fleet, ledger, folder, limit_first=True)
            for pair in range(1, pairs + 1):
                alone = _in_child(settings, folder, model_folder, work / "alone")
                queued = through_queue(fleet, ledger, folder)
                ratios.append(queued / alone)
                print(f"{pair:4}  {alone:10.1f}  {queued:17.1f}  {ratios[-1]:5.3f}", flush=True)
        print(f"median ratio {statistics.median(ratios):.3f}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def ready_fleet(settings: Settings, ledger: Ledger) -> Iterator[LocalWorkers]:
    with local_workers(settings, ledger) as fleet:
        while not all(worker.model_version for worker in ledger.query(list_workers)):
            fleet.tick()
            time.sleep(0.1)
        yield fleet


def through_queue(
    fleet: LocalWorkers,
    ledger: Ledger,
    folder: Path,
    *,
    limit_first: bool = False,
    options: ExplainOptions | None = None,
) -> float:
    """Images/s from the first message to the last row; `limit_first`: a short round to warm up."""
    globs = ("*1.png",) if limit_first else ()
    request = Request(folder, options or ExplainOptions(), force=True, globs=globs)
    enqueued = enqueue(ledger, fleet.settings, request)
    found = ledger.query(runs.progress, enqueued.run.id)
    start = time.perf_counter()
    publish_chunks(fleet.settings, ledger, enqueued.run, found.chunks)
    while not found.is_complete:
        time.sleep(0.02)
        found = ledger.query(runs.progress, enqueued.run.id)
    seconds = time.perf_counter() - start
    if found.failed:
        raise SystemExit(f"{found.failed} images failed")
    return found.images / seconds


def _in_child(settings: Settings, folder: Path, model_folder: Path, out: Path) -> float:
    """Images/s of the stages alone, in a fresh process that has no queue and no database."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.throughput_stages import in_process\n"
        "folder, model, out, batch, threads = sys.argv[1:]\n"
        "files = sorted(file for file in Path(folder).rglob('*.png'))\n"
        "print(in_process(files, Path(out), Path(model), batch_size=int(batch), readers=int(threads),"
        " renderers=int(threads)))"
    )
    arguments = [folder, model_folder, out, settings.batch_size, settings.worker_threads]
    answer = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=Path(__file__).resolve().parent.parent,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    shutil.rmtree(out)
    return float(answer.stdout.split()[-1])


if __name__ == "__main__":
    main()
