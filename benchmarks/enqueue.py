"""How fast a folder is enqueued, and in how much memory.

    python -m benchmarks.enqueue                                    # 2,000 and 200,000 files, SQLite
    python -m benchmarks.enqueue --postgres                         # in a Postgres of its own
    python -m benchmarks.enqueue --database postgresql+psycopg://USER:PASSWORD@HOST/EMPTY_DATABASE
    python -m benchmarks.enqueue --files 1000000 --folder KEEP      # keeps the files for the next time

Each line is a process of its own: scan, ledger, messages in a real Valkey, all as `xraycam enqueue` does it.
`again` enqueues the same folder once more, when every file is known. CPU s are of that process alone.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

FEW = 2_000
PER_FOLDER = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--database", help="an empty database; without it, SQLite in the temporary folder")
    parser.add_argument("--postgres", action="store_true", help="start a Postgres server and use that")
    parser.add_argument("--folder", type=Path, help="where the files are made, and left; else temporary")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        print(json.dumps(enqueue_here(given.child)))
        return
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="xraycam-enqueue-")))
        database = given.database or f"sqlite:///{work / 'home' / 'ledger.sqlite3'}"
        if given.postgres:
            from tests.support.servers import Postgres

            server = Postgres()
            stack.callback(server.remove)
            server.start(fsync="on")
            database = server.new_database()
        compare(given.files, database, given.folder or work / "images", work)


def compare(files: int, database: str, images: Path, work: Path) -> None:
    from producer.private_broker import PrivateBroker
    from worker.settings import Settings

    make_files(images / "few", FEW)
    make_files(images / "many", files)
    home = work / "home"
    register_model(database, home / "models", work / "benchmark")
    broker = PrivateBroker(Settings(home=home))
    broker.ensure()
    try:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XRAYCAM_")}
        environment |= {
            "XRAYCAM_HOME": str(home),
            "XRAYCAM_BROKER_URL": broker.url,
            "XRAYCAM_DATABASE_URL": database,
            "XRAYCAM_MAX_QUEUED_MESSAGES": "1000000",
        }
        print(f"{'':<11}{'images':>9}{'s':>8}{'CPU s':>8}{'images/s':>11}{'peak MB':>9}", flush=True)
        few = measure("few", images / "few", environment)
        many = measure("many", images / "many", environment)
        measure("many again", images / "many", environment)
        print(f"memory for {files - FEW:,} more files: {many['peak_mb'] - few['peak_mb']:.1f} MB")
    finally:
        broker.stop()


def measure(label: str, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.enqueue", "--child", str(folder)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    print(
        f"{label:<11}{found['images']:>9,}{found['seconds']:>8.2f}{found['cpu_seconds']:>8.2f}"
        f"{found['images'] / found['seconds']:>11,.0f}{found['peak_mb']:>9.1f}   "
        + ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in found["stages"].items()),
        flush=True,
    )
    return found


def enqueue_here(folder: Path) -> dict[str, Any]:
    """What `xraycam enqueue FOLDER` does, timed; from the open ledger to the last message."""
    from db import runs
    from producer.enqueue import Request, enqueue
    from producer.publish import publish_chunks
    from producer.session import open_session

    session = open_session()
    session.require_broker()
    start, start_cpu = time.perf_counter(), time.process_time()
    enqueued = enqueue(session.ledger, session.settings, Request(folder))
    in_ledger = time.perf_counter()
    chunks = session.ledger.query(runs.progress, enqueued.run.id).chunks
    sent = publish_chunks(session.settings, session.ledger, enqueued.run, chunks)
    end, end_cpu = time.perf_counter(), time.process_time()
    assert session.ledger.query(runs.count_images, enqueued.run.id) == enqueued.scanned.found
    assert sent == chunks
    # ru_maxrss is in kilobytes on Linux, in bytes on macOS.
    scale = 1e6 if sys.platform == "darwin" else 1e3
    return {
        "images": enqueued.scanned.found,
        "seconds": end - start,
        "cpu_seconds": end_cpu - start_cpu,
        "stages": {"scan and ledger": in_ledger - start, "messages": end - in_ledger},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale,
    }


def register_model(database: str, store: Path, folder: Path) -> None:
    """A current model whose weights are only ever checked: enqueuing does not load them."""
    from db.ledger import Ledger
    from db.migrate import migrate
    from db.models import add_model
    from worker.model.metadata import Layer, ModelMetadata, Weights, digest_of, sha256_of, write_metadata
    from worker.model.store import ModelStore

    folder.mkdir()
    weights = folder / "weights.safetensors"
    weights.write_bytes(bytes(5_000_000))
    metadata = ModelMetadata(
        version=folder.name,
        classes=("Normal", "Tuberculosis"),
        layers=(Layer(name="out_relu", height=7, width=7, channels=1280, is_cam_candidate=True),),
        default_layer="out_relu",
        weights=Weights(file=weights.name, sha256=sha256_of(weights)),
        created="2025-01-01T00:00:00Z",
    )
    write_metadata(folder, metadata)
    version = ModelStore(str(store), store.parent / "model-cache").publish(folder)
    ledger = Ledger(database)
    migrate(ledger)
    ledger.write(
        add_model,
        version=version,
        digest=digest_of(folder),
        classes=metadata.classes,
        source="benchmark",
        metrics={},
        promote=True,
    )
    ledger.close()


def make_files(folder: Path, count: int) -> None:
    """Empty files named like radiographs, 1,000 a folder; those that are there already stay."""
    for first in range(0, count, PER_FOLDER):
        below = folder / f"{first // PER_FOLDER:05d}"
        if below.is_dir():
            continue
        half_done = folder / f".{below.name}"
        half_done.mkdir(parents=True, exist_ok=True)
        for number in range(first, min(first + PER_FOLDER, count)):
            (half_done / f"patient-{number:08d}-frontal.png").touch()
        half_done.rename(below)


if __name__ == "__main__":
    main()
