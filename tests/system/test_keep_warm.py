"""`xraycam run --keep-warm`: the next run uses the same worker, and nothing is left for ever."""

from __future__ import annotations

import csv
import shutil
import signal
from pathlib import Path

import pytest

from db.runs import STOPPED, get_run
from tests.support.installation import Installation, children_of, command_of, draw_many, refused
from tests.support.servers import wait_until

# What two runs of one folder cannot have in common.
OF_ONE_RUN = ("run", "overlay", "enqueued_at", "finished_at")


@pytest.fixture
def warm(installation: Installation) -> Installation:
    installation.without_tensorflow()
    return installation


def keepers(installation: Installation) -> list[int]:
    return [pid for pid in installation.processes() if "producer.warm_process" in command_of(pid)]


def workers(installation: Installation) -> list[int]:
    return children_of(keepers(installation), "worker_process")


def rows(installation: Installation, run: int) -> list[dict[str, str]]:
    found = installation.xraycam("results", run, "--format", "csv").stdout
    return [
        {name: value for name, value in row.items() if name not in OF_ONE_RUN}
        for row in csv.DictReader(found.splitlines())
    ]


def overlays(installation: Installation, run: int) -> dict[str, bytes]:
    folder = installation.home / "overlays" / f"run-{run:06}"
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.glob("*.jpg")}


def test_the_next_run_has_the_same_worker_gives_what_a_cold_one_gives_and_uses_a_promoted_model(
    warm: Installation, newer: Path
) -> None:
    xrays, others = draw_many(warm.folder / "xrays", 5), draw_many(warm.folder / "others", 3)
    warm.xraycam("run", xrays, "--no-report")
    assert not warm.processes()

    told = warm.xraycam("run", others, "--no-report", "--keep-warm", "10m")

    assert "workers stay warm for 10 min" in told.stderr
    before = workers(warm)
    assert len(before) == 1
    again = warm.xraycam("run", xrays, "--no-report", "--force")
    assert "workers stay warm for 10 min" in again.stderr
    assert workers(warm) == before
    assert rows(warm, 3) == rows(warm, 1)
    assert overlays(warm, 3) == overlays(warm, 1)
    assert len(overlays(warm, 3)) == 5
    assert "kept warm until" in warm.xraycam("workers").stderr

    warm.xraycam("models", "import", newer, "--promote")
    warm.xraycam("run", xrays, "--no-report")
    warm.xraycam("run", others, "--no-report", "--force", "--model", "small")
    assert workers(warm) == before
    assert [{row["model_version"] for row in rows(warm, run)} for run in (4, 5)] == [{"newer"}, {"small"}]

    assert "were ended" in warm.xraycam("workers", "--stop-warm").stderr
    wait_until(lambda: not warm.processes(), 10, "no process left")
    assert "no workers are kept warm" in warm.xraycam("workers", "--stop-warm").stderr


def test_they_end_after_their_time(warm: Installation) -> None:
    xrays = draw_many(warm.folder / "xrays", 2)
    warm.xraycam("run", xrays, "--no-report", "--keep-warm", "1s")
    wait_until(lambda: not warm.processes(), 15, "no process left after the time")
    assert not list(warm.home.glob("warm/*.json"))


def test_others_are_not_served_by_them_and_a_killed_process_is_no_hindrance(warm: Installation) -> None:
    xrays = draw_many(warm.folder / "xrays", 2)
    warm.xraycam("run", xrays, "--no-report", "--keep-warm", "1h")
    before = workers(warm)
    warm.set(batch_size=3)

    other = warm.xraycam("run", xrays, "--no-report", "--force")

    assert "they were started with another XRAYCAM_BATCH_SIZE" in other.stderr
    assert warm.counts(2) == {"images": 2, "done": 2}
    assert workers(warm) == before
    warm.xraycam("run", xrays, "--no-report", "--force", "--keep-warm", "1h")
    replaced = workers(warm)
    assert len(replaced) == 1
    assert replaced != before

    (keeper,) = keepers(warm)
    warm.kill(keeper)
    wait_until(lambda: not warm.processes(), 30, "no orphan")
    after = warm.xraycam("run", xrays, "--no-report", "--force")
    assert "workers kept warm are not used: they are no longer alive" in after.stderr
    assert warm.counts(4) == {"images": 2, "done": 2}
    assert not warm.processes()


def test_ctrl_c_leaves_the_workers_which_one_command_at_a_time_uses_and_which_end_with_their_home(
    warm: Installation,
) -> None:
    xrays, others = draw_many(warm.folder / "xrays", 160), draw_many(warm.folder / "others", 2)
    warm.set(chunk_size=4)
    warm.without_tensorflow(0.05)
    process = warm.start("run", xrays, "--no-report", "--keep-warm", "1h")
    warm.wait_done(4)
    before = workers(warm)
    beside = warm.start("run", others, "--no-report")
    told = warm.folder / "stderr.txt"
    wait_until(lambda: "not used: run 1 uses them" in told.read_text(), 30, "the second command told")

    process.send_signal(signal.SIGINT)

    assert process.wait(40) == 130
    assert beside.wait(60) == 0
    assert warm.ledger.query(get_run, 1).state == STOPPED
    done = warm.counts()["done"]
    assert done < 160
    warm.xraycam("run", others, "--no-report", "--force")
    assert warm.counts() == {"images": 160, "done": done}
    warm.xraycam("resume", 1)
    assert warm.counts() == {"images": 160, "done": 160}
    assert workers(warm) == before

    shutil.rmtree(warm.home)
    wait_until(lambda: not warm.processes(), 15, "no process left without the home")
    assert not warm.home.exists()


def test_a_killed_command_frees_its_workers_and_killed_workers_stop_the_run_and_say_so(
    warm: Installation,
) -> None:
    xrays = draw_many(warm.folder / "xrays", 600)
    warm.set(chunk_size=4)
    warm.without_tensorflow(0.05)
    killed = warm.start("run", xrays, "--no-report", "--keep-warm", "1h")
    warm.wait_done(4)
    before = workers(warm)
    warm.kill(killed.pid)
    killed.wait(10)
    wait_until(lambda: "kept warm until" in warm.xraycam("workers").stderr, 30, "the workers free")
    seen = warm.counts()["done"]

    second = warm.start("run", xrays, "--no-report")
    told = warm.folder / "stderr.txt"
    wait_until(lambda: "used by run 1" in warm.xraycam("workers").stderr, 60, "the second command at work")
    warm.wait_done(seen + 8)
    assert workers(warm) == before
    assert "are not used" not in told.read_text()

    (keeper,) = keepers(warm)
    warm.kill(keeper)
    assert second.wait(60) == 2
    assert "the workers kept warm were ended" in told.read_text()
    assert warm.ledger.query(get_run, 1).state == STOPPED
    wait_until(lambda: not warm.processes(), 30, "no orphan")
    warm.without_tensorflow()
    warm.xraycam("resume", 1)
    assert warm.counts() == {"images": 600, "done": 600}


def test_a_duration_that_is_none_and_a_broker_of_ones_own_are_refused(installation: Installation) -> None:
    assert "write 90s, 10m or 2h" in installation.xraycam("run", ".", "--keep-warm", "5", status=2).stderr
    installation.set(broker_url="redis://127.0.0.1:1/0")
    assert "--keep-warm is for runs without a broker" in refused(
        installation, "run", ".", "--keep-warm", "5m"
    )
