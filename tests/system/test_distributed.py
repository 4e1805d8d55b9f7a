"""Servers and workers of one's own: enqueue here, work there, watch and query anywhere."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from tests.support.fault_runs import children
from tests.support.installation import Installation, draw_many, draw_xrays
from tests.support.servers import Valkey, free_port, wait_until
from worker.queue.messages import EXPLAIN_QUEUE

both_databases = pytest.mark.parametrize("distributed", ["sqlite", "postgres"], indirect=True)


@both_databases
def test_enqueued_folder_is_worked_on_elsewhere_and_queried_in_every_format(
    distributed: Installation, valkey: Valkey
) -> None:
    xrays = draw_xrays(distributed.folder / "xrays", 24)
    (xrays / "empty.png").write_bytes(b"")
    distributed.set(chunk_size=10)

    assert distributed.xraycam("enqueue", xrays).stdout == "1\n"
    assert valkey.client().llen(EXPLAIN_QUEUE) == 3
    assert "0 of 25 done" in distributed.xraycam("watch", "--once").stdout
    distributed.start("worker", "--gpus", "none")
    watched = distributed.xraycam("watch", 1, status=3).stdout
    assert "run 1: 24 done, 1 failed" in watched
    assert "failed: empty" in watched

    rows = list(csv.DictReader(distributed.xraycam("results", "--format", "csv").stdout.splitlines()))
    assert len(rows) == 25
    assert (
        json.loads(distributed.xraycam("results", 1, "--format", "json").stdout)[0].keys() == rows[0].keys()
    )
    lines = distributed.xraycam("results", "--format", "jsonl", "--status", "done").stdout.splitlines()
    assert {json.loads(line)["status"] for line in lines} == {"done"}
    distributed.xraycam("results", "--format", "parquet", "--output", "results.parquet")
    table = parquet.read_table(io.BytesIO((distributed.folder / "results.parquet").read_bytes()))
    assert table.num_rows == 25
    assert sorted(table.column("path").to_pylist()) == sorted(row["path"] for row in rows)
    sure = [row for row in rows if row["probability"] and float(row["probability"]) >= 0.6]
    found = distributed.xraycam("results", "--min-probability", "0.6", "--format", "csv").stdout
    assert len(list(csv.DictReader(found.splitlines()))) == len(sure)
    assert "phantom-0001.png" in distributed.xraycam("results").stdout
    assert "complete" in distributed.xraycam("runs").stdout
    assert "explain" in distributed.xraycam("workers").stdout


def test_a_worker_that_explains_loads_tensorflow_and_neither_scikit_learn_nor_matplotlib(
    distributed: Installation,
) -> None:
    """By the shared libraries in its memory; `tests/explain/test_light_worker.py` goes by modules."""
    distributed.start("worker", "--gpus", "none")
    distributed.xraycam("enqueue", draw_xrays(distributed.folder / "xrays", 2), "--colormap", "turbo")
    distributed.wait_complete()
    (child,) = children(distributed)
    mapped = Path(f"/proc/{child}/maps").read_text()
    loaded = {name for name in ("tensorflow", "sklearn", "matplotlib", "pandas") if f"/{name}/" in mapped}
    assert loaded == {"tensorflow"}


def test_cancelled_run_stops_and_resume_completes_it(distributed: Installation) -> None:
    distributed.set(chunk_size=8)
    distributed.without_tensorflow(0.1)
    xrays = draw_many(distributed.folder / "xrays", 150)
    distributed.start("worker")
    distributed.xraycam("enqueue", xrays)
    distributed.wait_done(16)

    assert "images without a result" in distributed.xraycam("cancel", 1).stdout

    assert "cancelled" in distributed.xraycam("watch", 1, status=130).stdout
    wait_until(lambda: "doing" not in distributed.xraycam("runs").stdout, 5)
    stopped = distributed.counts()["done"]
    assert stopped < 150
    rows = distributed.xraycam("results", "--status", "cancelled", "--format", "jsonl").stdout.splitlines()
    assert 0 < len(rows) <= 150 - 16
    distributed.xraycam("resume", 1)
    distributed.wait_complete()
    assert distributed.counts() == {"images": 150, "done": 150}


def test_watch_ends_on_ctrl_c_and_the_run_continues(distributed: Installation) -> None:
    xrays = draw_many(distributed.folder / "xrays", 20)
    distributed.xraycam("enqueue", xrays)
    watch = distributed.start("watch", 1)
    wait_until(lambda: has_open(watch.pid, "ledger.sqlite3"), 30, "watching")
    watch.send_signal(signal.SIGINT)
    assert watch.wait(20) == 130
    distributed.without_tensorflow()
    distributed.start("worker")
    distributed.wait_complete()


def test_flower_shows_workers_and_tasks_a_person_can_read(distributed: Installation) -> None:
    """Also tasks that were sent before Flower started."""
    xrays = draw_many(distributed.folder / "xrays", 20)
    distributed.without_tensorflow()
    distributed.set(chunk_size=5)
    distributed.xraycam("enqueue", xrays)
    port = free_port()
    flower = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "worker", "flower", f"--port={port}", "--address=127.0.0.1"],
        env={**distributed.environment, "FLOWER_UNAUTHENTICATED_API": "true"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=distributed.folder,
    )
    try:
        wait_until(lambda: answer(port, "/healthcheck") is not None, 30, "Flower answers")
        distributed.start("worker")
        distributed.wait_complete()
        wait_until(lambda: len(answer(port, "/api/tasks") or {}) == 4, 30, "Flower knows four tasks")
        tasks = answer(port, "/api/tasks").values()
        assert {task["name"] for task in tasks} == {"xraycam.explain_chunk"}
        assert {task["args"] for task in tasks} == {repr(str(xrays))}
        assert {task["kwargs"] for task in tasks} == {f"chunk {number}/4, run 1" for number in (1, 2, 3, 4)}
        assert {task["state"] for task in tasks} == {"SUCCESS"}
        assert any("explain-cpu" in name for name in answer(port, "/api/workers?refresh=1"))
    finally:
        flower.send_signal(signal.SIGTERM)
        flower.wait(20)


def has_open(process: int, name: str) -> bool:
    files = Path(f"/proc/{process}/fd")
    return any(name in str(file.readlink()) for file in files.iterdir())


def answer(port: int, path: str) -> Any:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
            body = response.read()
    except OSError:
        return None
    return json.loads(body) if path.startswith("/api") else body


def test_workers_of_two_devices_each_see_only_their_own(distributed: Installation) -> None:
    """With a stand-in for GPUs: the list of devices that the environment allows."""
    distributed.environment["CUDA_VISIBLE_DEVICES"] = "0,1"
    xrays = draw_many(distributed.folder / "xrays", 40)
    distributed.without_tensorflow()
    distributed.set(chunk_size=4)
    distributed.start("worker", "--gpus", "all")
    distributed.xraycam("enqueue", xrays)
    distributed.wait_complete()
    seen = set()
    for process in distributed.processes():
        try:
            environment = Path(f"/proc/{process}/environ").read_text(errors="replace")
        except OSError:
            continue
        entries = dict(entry.split("=", 1) for entry in environment.split("\0") if "=" in entry)
        if "XRAYCAM_WORKER_NAME" in entries:
            name = entries["XRAYCAM_WORKER_NAME"].split("-")[1]
            seen.add((name, entries["CUDA_VISIBLE_DEVICES"]))
    assert seen == {("gpu0", "0"), ("gpu1", "1")}
