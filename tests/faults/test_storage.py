"""Disks are full, folders read-only, shares gone: workers wait for them, and no image is blamed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from db.workers import list_workers
from tests.support.fault_runs import (
    NoteFault,
    assert_each_once,
    draw_xrays_of,
    enqueue,
    run_under_way,
    seconds_until_more_done,
)
from tests.support.installation import Installation, unavailable
from tests.support.servers import wait_until


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory at `folder`. Only root may make one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "xraycam-test", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        unavailable(f"no file system can be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def watched(installation: Installation) -> str:
    return str(installation.xraycam("watch", "--once").stdout)


def test_disk_full_in_mid_run(distributed: Installation, note_fault: NoteFault) -> None:
    xrays = draw_xrays_of(distributed)
    with mounted(distributed.home / "overlays", "size=256k"):
        distributed.start("worker")
        enqueue(distributed, xrays)
        wait_until(lambda: "No space left on device" in watched(distributed), 60, "watch says why")
        (worker,) = distributed.ledger.query(list_workers)
        assert "No space left" in str(worker.last_error)
        assert distributed.counts().get("failed", 0) == 0
        before = distributed.counts()["done"]
        assert 0 < before < 300

        remount(distributed.home / "overlays", "size=16m")

        seconds = seconds_until_more_done(distributed)
        distributed.wait_complete()
        assert_each_once(distributed, attempts=1)
        (worker,) = distributed.ledger.query(list_workers)
        assert worker.last_error is None
    note_fault(
        "disk full while overlays are written",
        "chunks wait, `watch` and `workers` say why; no image fails, no half-written file is left",
        seconds,
        "after there was room",
    )


def test_output_folder_becomes_read_only(distributed: Installation, note_fault: NoteFault) -> None:
    xrays = draw_xrays_of(distributed)
    with mounted(distributed.home / "overlays", "size=16m"):
        distributed.start("worker")
        enqueue(distributed, xrays)
        distributed.wait_done(40)

        remount(distributed.home / "overlays", "ro")
        wait_until(lambda: "Read-only file system" in watched(distributed), 60, "watch says why")
        remount(distributed.home / "overlays", "rw")

        seconds = seconds_until_more_done(distributed)
        distributed.wait_complete()
        assert_each_once(distributed, attempts=1)
    note_fault(
        "output folder read-only", "chunks wait, `watch` says why", seconds, "after it could be written"
    )


def test_share_with_the_images_goes_away(distributed: Installation, note_fault: NoteFault) -> None:
    xrays = draw_xrays_of(distributed)
    run_under_way(distributed, xrays)

    away = xrays.rename(xrays.with_name("unmounted"))
    xrays.mkdir()  # as an empty mount point
    wait_until(lambda: "cannot be read:" in watched(distributed), 60, "watch says why")
    xrays.rmdir()
    away.rename(xrays)

    seconds = seconds_until_more_done(distributed)
    distributed.wait_complete()
    assert_each_once(distributed, attempts=1)
    note_fault(
        "share with the images gone (its folder empty)",
        "chunks wait, `watch` says why; no image fails as missing",
        seconds,
        "after it was back",
    )


def test_model_store_unreachable_when_a_worker_starts(
    distributed: Installation, note_fault: NoteFault
) -> None:
    xrays = draw_xrays_of(distributed)
    enqueue(distributed, xrays)
    store = distributed.home / "models"
    away = store.rename(store.with_name("unmounted"))
    for copy in distributed.home.glob("model-cache/*/*"):
        copy.unlink()
    distributed.start("worker")
    wait_until(lambda: "model small" in watched(distributed), 60, "watch says why")
    assert distributed.counts() == {"images": 300}

    away.rename(store)

    seconds = seconds_until_more_done(distributed)
    distributed.wait_complete()
    assert_each_once(distributed, attempts=1)
    note_fault(
        "model store unreachable when a worker starts",
        "chunks wait, `watch` says why; a worker that has its model needs no store",
        seconds,
        "after it was back",
    )
