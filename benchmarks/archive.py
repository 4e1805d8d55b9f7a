"""A long archive from the first file to the last row: memory, broker, and how soon questions are answered.

    python -m benchmarks.archive --files 1000000                 # SQLite
    python -m benchmarks.archive --files 1000000 --postgres

`xraycam enqueue` and `xraycam worker` with two stand-in accelerators that take no time run as processes; the
files are hard links to a few small PNGs. Meanwhile `watch --once` and `results` are asked, as whole processes
of which Python's start is a part (`xraycam --help`, first column of seconds).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from benchmarks.stand_in_fleet import COMMAND, StandInFleet, link_images, stand_in_fleet
from db import runs
from worker.queue.messages import EXPLAIN_QUEUE

QUEUE_LIMIT = 500
QUESTIONS = {
    "help": ["--help"],
    "watch": ["watch", "1", "--once"],
    "results": ["results", "1", "--limit", "20", "--format", "csv"],
    "class": ["results", "1", "--class", "Tuberculosis", "--limit", "20", "--format", "csv"],
    "failed": ["results", "1", "--status", "failed", "--limit", "20", "--format", "csv"],
}


@click.command()
@click.option("--files", default=1_000_000, show_default=True)
@click.option("--postgres", is_flag=True, help="A Postgres of its own, rather than SQLite.")
@click.option("--every", default=30.0, show_default=True, help="Seconds between looks.")
def main(files: int, postgres: bool, every: float) -> None:
    """Enqueue and drain an archive of FILES images."""
    folder = Path(tempfile.mkdtemp(prefix="xraycam-archive-"))
    try:
        with stand_in_fleet(folder, postgres=postgres, max_queued_messages=str(QUEUE_LIMIT)) as fleet:
            archive = link_images(folder / "archive", files)
            with fleet.workers(2, 0.0) as launcher:
                report(drain(fleet, archive, launcher.pid, every))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def drain(fleet: StandInFleet, archive: Path, launcher: int, every: float) -> list[dict[str, Any]]:
    """Enqueue, and look every so often until all is done; what was seen."""
    start = time.monotonic()
    with (fleet.folder / "enqueue.log").open("wb") as log:
        producer = subprocess.Popen(
            [COMMAND, "enqueue", archive], env=fleet.environment, stdout=subprocess.DEVNULL, stderr=log
        )
    seen: list[dict[str, Any]] = []
    longest = 0
    while True:
        next_look = time.monotonic() + every
        while time.monotonic() < next_look:
            longest = max(longest, int(fleet.broker.client().llen(EXPLAIN_QUEUE)))
            time.sleep(0.2)
        found = fleet.ledger.query(runs.progress, 1) if seen or rows(fleet) else None
        if found is None:
            continue
        children = [child for child in family_of(launcher) if child != launcher]
        look = {
            "s": time.monotonic() - start,
            "images": found.images,
            "done": found.done,
            "queue": longest,
            "producer": memory_of(producer.pid) if producer.poll() is None else 0.0,
            "launcher": memory_of(launcher),
            "worker": max((memory_of(child) for child in children), default=0.0),
            "broker": fleet.broker.client().info("memory")["used_memory"] / 1e6,
            **{name: seconds_of(fleet, words) for name, words in QUESTIONS.items()},
        }
        if not seen:
            print("".join(f"{name:>10}" for name in look))
        print(
            "".join(f"{value:>10,.{0 if isinstance(value, int) else 2}f}" for value in look.values()),
            flush=True,
        )
        seen.append(look)
        if producer.poll() is not None and found.is_complete:
            assert producer.returncode == 0, (fleet.folder / "enqueue.log").read_text()
            assert found.done == fleet.ledger.query(runs.count_images, 1)
            return seen


def rows(fleet: StandInFleet) -> bool:
    return bool(fleet.ledger.query(runs.list_runs, 1))


def seconds_of(fleet: StandInFleet, words: list[str]) -> float:
    start = time.monotonic()
    done = subprocess.run([COMMAND, *words], env=fleet.environment, capture_output=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    return time.monotonic() - start


def memory_of(process: int) -> float:
    """Resident memory in MB; 0 for one that is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0
    return int(status.partition("VmRSS:")[2].split()[0]) / 1e3 if "VmRSS:" in status else 0.0


def family_of(process: int) -> list[int]:
    found = [process]
    for number in found:
        for task in Path(f"/proc/{number}/task").glob("*/children"):
            with suppress(OSError):  # a thread that ended meanwhile
                found += map(int, task.read_text().split())
    return found


def report(seen: list[dict[str, Any]]) -> None:
    total = seen[-1]["done"]
    late = [look for look in seen if look["done"] >= 0.2 * total]
    print(
        f"images/s {total / seen[-1]['s']:,.0f}; longest queue {max(look['queue'] for look in seen)} messages"
    )
    for name in ("producer", "launcher", "worker", "broker"):
        values = [look[name] for look in late if look[name]]
        if values:
            print(f"{name}: {values[0]:.1f} MB at a fifth of the way, {max(values):.1f} MB at most after it")
    for name in QUESTIONS:
        print(f"{name}: at most {max(look[name] for look in seen):.2f} s")


if __name__ == "__main__":
    main()
