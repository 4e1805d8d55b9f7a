"""Images and overlays in object storage beside the same on a disk, with 50 ms added to each request.

    python -m benchmarks.remote                                  # 3 pairs, then 100,000 keys listed
    python -m benchmarks.remote --images 256 --pairs 1 --keys 20000
    python -m benchmarks.remote --seconds 0                      # an accelerator that takes no time

One `xraycam worker` with a stand-in accelerator of `--seconds` an image explains a folder of radiographs, and
the same as objects, in turn; overlays go beside them. The server (`object_server.py`) shares the processors.
Processor time is that of the worker's processes alone. The time is that from `enqueue` to the last result.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.archive import family_of
from benchmarks.object_server import BUCKET
from benchmarks.stand_in_fleet import StandInFleet, stand_in_fleet
from db import runs
from producer.enqueue import Request, enqueue
from producer.publish import publish_chunks
from worker.remote.folder import RemoteFolder, place_of

FEW = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--side", type=int, default=512, help="pixels of an image's side")
    parser.add_argument("--pairs", type=int, default=3, help="0: only the listing")
    parser.add_argument("--seconds", type=float, default=0.01, help="of the accelerator, an image")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds added to each request")
    parser.add_argument("--keys", type=int, default=100_000, help="of the prefix that is only enqueued")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        print(json.dumps(enqueue_here(given.child)))
        return
    with tempfile.TemporaryDirectory(prefix="xraycam-remote-") as work:
        compare(Path(work), given)


def compare(work: Path, given: argparse.Namespace) -> None:
    from producer.phantoms import make_phantoms

    images = work / "images"
    make_phantoms(images, given.images, seed=1, size=given.side)
    size = statistics.mean(file.stat().st_size for file in images.rglob("*.png"))
    print(
        f"{given.images} images of {size / 1000:,.0f} kB; {given.delay * 1000:.0f} ms added to each request"
    )
    with (
        object_server(work, images, given.delay, given.keys) as server,
        stand_in_fleet(work, postgres=False) as fleet,
    ):
        fleet.environment |= server.environment
        os.environ.update(server.environment)
        if given.pairs:
            print(f"{'':<8}{'images/s':>10}{'CPU ms/image':>14}   requests an image", flush=True)
            with fleet.workers(1, given.seconds) as launcher:
                ratios, costs = pairs(work, fleet, server, images, launcher.pid, given.pairs)
            print(
                f"remote by local: {statistics.median(ratios):.3f} ({', '.join(f'{r:.3f}' for r in ratios)})"
            )
            print(f"processor time more: {statistics.median(costs):.1f} ms an image", flush=True)
        listing(fleet, server, given.keys)


def pairs(
    work: Path, fleet: StandInFleet, server: ObjectServer, images: Path, launcher: int, count: int
) -> tuple[list[float], list[float]]:
    """Remote by local in images/s, and the difference in processor time in ms an image, of each pair."""
    ratios, costs = [], []
    for number in range(-1, count):  # the first is to warm up
        found: dict[str, tuple[float, float]] = {}
        for kind, folder, output in (
            ("local", str(images), str(work / f"overlays-{number}")),
            ("remote", f"s3://{BUCKET}/in", f"s3://{BUCKET}/overlays-{number}"),
        ):
            before = server.requests()
            rate, cost = drain(fleet, folder, output, launcher)
            asked = server.requests() - before
            found[kind] = rate, cost
            found_images = sum(1 for _ in images.rglob("*.png"))
            each = ", ".join(f"{name} {value / found_images:.3f}" for name, value in asked.items())
            if number >= 0:
                print(
                    f"{kind:<8}{rate:>10.1f}{cost * 1000:>14.1f}   {each if kind == 'remote' else ''}",
                    flush=True,
                )
        if number >= 0:
            ratios.append(found["remote"][0] / found["local"][0])
            costs.append((found["remote"][1] - found["local"][1]) * 1000)
    return ratios, costs


def drain(fleet: StandInFleet, folder: str, output: str, launcher: int) -> tuple[float, float]:
    """Enqueue and wait; images/s, and the worker's processor time in seconds an image."""
    used, start = processor_seconds(launcher), time.monotonic()
    run = enqueue(fleet.ledger, fleet.settings, Request(place_of(folder), output=place_of(output))).run
    publish_chunks(fleet.settings, fleet.ledger, run, fleet.ledger.query(runs.progress, run.id).chunks)
    while not (found := fleet.ledger.query(runs.progress, run.id)).is_complete:
        time.sleep(0.02)
    seconds = time.monotonic() - start
    assert found.failed == 0, fleet.ledger.query(runs.failures_by_reason, run.id)
    return found.done / seconds, (processor_seconds(launcher) - used) / found.done


def listing(fleet: StandInFleet, server: ObjectServer, keys: int) -> None:
    """Enqueue prefixes of few and of many keys, each in a process of its own, in a ledger of its own."""
    print(f"{'keys':>9}{'s':>8}{'CPU s':>8}{'keys/s':>10}{'peak MB':>9}{'requests':>10}{'bytes/image':>13}")
    peaks = []
    for count, prefix in ((FEW, "few"), (keys, "many"), (keys, "many")):
        before = server.requests()
        command = [sys.executable, "-m", "benchmarks.remote", "--child", f"s3://{BUCKET}/{prefix}"]
        settings = {"XRAYCAM_MAX_QUEUED_MESSAGES": "1000000"}
        done = subprocess.run(
            command, env=fleet.environment | settings, stdout=subprocess.PIPE, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
        asked = (server.requests() - before).total()
        assert found["images"] == count
        peaks.append(found["peak_mb"])
        print(
            f"{count:>9,}{found['seconds']:>8.2f}{found['cpu_seconds']:>8.2f}"
            f"{count / found['seconds']:>10,.0f}{found['peak_mb']:>9.1f}{asked:>10}"
            f"{found['ledger_bytes'] / count:>13.0f}",
            flush=True,
        )
    print(f"memory for {keys - FEW:,} more keys: {peaks[1] - peaks[0]:.1f} MB (the last line: all known)")


def enqueue_here(url: str) -> dict[str, Any]:
    """List a prefix into the ledger, as `xraycam enqueue` does it."""
    from producer.session import open_session

    session = open_session()
    file = Path(str(session.ledger.engine.url.database))
    before = file.stat().st_size
    start, start_cpu = time.perf_counter(), time.process_time()
    enqueued = enqueue(session.ledger, session.settings, Request(RemoteFolder(url)))
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    with session.ledger.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return {
        "images": enqueued.scanned.found,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "ledger_bytes": file.stat().st_size - before,
    }


class ObjectServer:
    """The server, as a process."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
        }  # fmt: skip

    def requests(self) -> Counter[str]:
        with urllib.request.urlopen(f"{self.url}/-/requests") as answer:  # noqa: S310 - our own server
            return Counter(json.load(answer))


@contextmanager
def object_server(work: Path, images: Path, delay: float, keys: int) -> Iterator[ObjectServer]:
    command = [sys.executable, "-m", "benchmarks.object_server", str(images), "--delay", str(delay)]
    with (work / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--keys", str(keys)], stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert process.stdout is not None
        yield ObjectServer(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()


def processor_seconds(launcher: int) -> float:
    """Of a launcher and all below it."""
    total = 0
    for process in family_of(launcher):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
