"""Training as a task of the queue: real broker, real workers, real deaths."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from db.models import current_model, list_models
from tests.support.installation import Installation, command_of, parent_of
from tests.support.servers import Valkey, wait_until
from tests.support.watched_training import START_SECONDS, Watched
from worker.queue.celery_app import create_celery_app
from worker.queue.messages import send_training
from worker.settings import Settings
from worker.supervisor.reaper import Reaper

MakeFolder = Callable[..., Path]

pytestmark = pytest.mark.timeout(600)


def start_trainer(installation: Installation) -> None:
    installation.start("worker", "--queues", "train", "--gpus", "none")


def train(installation: Installation, *arguments: object) -> int:
    """Send a training, from random weights; its number."""
    asked = installation.xraycam("train", *arguments, "--init-weights", "none", "--promote", "always")
    return int(asked.stdout)


def trainer_children(installation: Installation) -> list[int]:
    """The processes that train: children of Celery's main process, which is one of the launcher's."""
    nodes = [pid for pid in installation.processes() if "worker.supervisor.worker_process" in command_of(pid)]
    return [pid for pid in nodes if parent_of(pid) in nodes]


def versions(installation: Installation) -> list[str]:
    return [model.version for model in installation.ledger.query(list_models)]


def test_a_training_through_the_queue_publishes_and_promotes_a_version(
    distributed: Installation, make_folder: MakeFolder, recipe_file: Path
) -> None:
    data, test = make_folder("data", Clear=10, Opaque=10), make_folder("test", seed=2, Clear=4, Opaque=4)
    start_trainer(distributed)
    waited = distributed.xraycam(
        "train", data, "--recipe", recipe_file, "--init-weights", "none", "--promote", "always",
        "--test", test, "--wait", seconds=START_SECONDS,
    )  # fmt: skip
    assert "training 1 made model data-1: AUC " in waited.stdout
    assert "on the test folder" in waited.stdout
    for number in (1, 2):
        assert f"epoch {number}/2 (network): loss " in waited.stderr
    current = distributed.ledger.query(current_model)
    assert current is not None
    assert (current.version, current.classes) == ("data-1", ("Clear", "Opaque"))
    child = set(trainer_children(distributed))

    measured = distributed.xraycam("evaluate", test, "--output", "out", seconds=START_SECONDS)
    assert "model data-1 on 4 Clear, 4 Opaque" in measured.stdout
    found = json.loads((distributed.folder / "out" / "metrics.json").read_text())["figures"]
    published = json.loads((distributed.home / "models" / "data-1" / "metrics.json").read_text())["test"]
    assert found["auc"] == published["auc"]
    assert found["confusion"] == published["confusion"]
    assert found["brier"] == pytest.approx(published["brier"], abs=1e-6)

    # The next one learns from the first, in a process of its own.
    again = distributed.xraycam(
        "train", data, "--recipe", recipe_file, "--init-weights", "data-1", "--promote", "never", "--wait",
        seconds=START_SECONDS,
    )  # fmt: skip
    assert "training 2 made model data-2" in again.stdout
    assert "not promoted, as asked" in again.stdout
    description = json.loads((distributed.home / "models" / "data-2" / "model.json").read_text())
    assert description["training"]["started_from"] == "version data-1"
    assert not child & set(trainer_children(distributed))
    listed = distributed.xraycam("trainings").stdout
    assert "data-1" in listed
    assert "promoted, as asked" in listed


def test_a_cancelled_training_leaves_no_version_and_can_go_on(
    distributed: Installation, make_folder: MakeFolder, recipe_file: Path
) -> None:
    data = make_folder("data", Clear=10, Opaque=10)
    start_trainer(distributed)
    watched = Watched(distributed)
    waiting = distributed.start(
        "train",
        data,
        "--recipe",
        recipe_file,
        "--init-weights",
        "none",
        "--set",
        "stages.0.epochs=900",
        "--wait",
    )
    watched.wait(lambda t: t.epoch >= 2, "two epochs")
    # Ctrl-C ends the watching only.
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(30) == 130
    assert "training 1 continues" in (distributed.folder / "stderr.txt").read_text()
    seen = watched.get()
    watched.wait(lambda t: t.epoch > seen.epoch, "another epoch")
    assert watched.get().state == "running"

    cancelled = distributed.xraycam("cancel", "--training", 1)
    assert "'xraycam train --resume 1' continues it" in cancelled.stdout
    wait_until(
        lambda: "training 1" not in distributed.xraycam("workers").stdout, 60, "the trainer lets go of it"
    )
    stopped = watched.get()
    assert (stopped.state, stopped.version) == ("cancelled", None)
    assert versions(distributed) == []
    assert not (distributed.home / "models").exists()
    assert "was cancelled after" in distributed.xraycam("watch", "--training", 1, status=3).stderr

    assert distributed.xraycam("train", "--resume", 1).stdout == "1\n"
    resumed = watched.wait(lambda t: t.epoch > stopped.epoch, "an epoch after the resume")
    assert [epoch["epoch"] for epoch in resumed.history] == list(range(1, resumed.epoch + 1))
    distributed.xraycam("cancel", "--training", 1)


def test_a_killed_trainer_is_seen_within_the_lease_and_its_training_continues_from_the_last_epoch(
    distributed: Installation, make_folder: MakeFolder, recipe_file: Path
) -> None:
    data = make_folder("data", Clear=10, Opaque=10)
    start_trainer(distributed)
    watched = Watched(distributed)
    train(distributed, data, "--recipe", recipe_file, "--set", "stages.0.epochs=12")
    killed = watched.wait(lambda t: t.epoch >= 3, "three epochs")
    for pid in trainer_children(distributed):
        distributed.kill(pid)
    wait_until(lambda: watched.get().state == "lost", 3 + 2, "lost within the lease time of 3 s")
    before = watched.get()
    assert 3 <= before.epoch < 12
    assert before.epoch - killed.epoch <= 2
    assert versions(distributed) == []
    told = distributed.xraycam("watch", "--training", 1, status=3).stderr
    assert f"training 1 is lost after {before.epoch} of 12 epochs" in told

    resumed = distributed.xraycam("train", "--resume", 1, "--wait", seconds=START_SECONDS)
    assert "training 1 made model data-1" in resumed.stdout
    after = watched.get()
    assert (after.state, after.start, after.epoch) == ("done", 2, 12)
    # Epochs from before the death are those of the checkpoint: not one was done again.
    known = {epoch["epoch"]: epoch for epoch in before.history}
    kept = [epoch for epoch in after.history if epoch["epoch"] in known]
    assert kept == list(known.values())
    assert [epoch["epoch"] for epoch in after.history] == list(range(1, 13))
    assert f"epoch {before.epoch + 2}/12" in resumed.stderr


def test_a_training_longer_than_visibility_timeout_and_time_limit_runs_once(
    distributed: Installation, make_folder: MakeFolder, recipe_file: Path
) -> None:
    distributed.sabotage(limits=4)
    data = make_folder("data", Clear=10, Opaque=10)
    start_trainer(distributed)
    start_trainer(distributed)
    watched = Watched(distributed)
    number = train(distributed, data, "--recipe", recipe_file, "--set", "stages.0.epochs=30")
    running = watched.wait(lambda t: t.state == "running", "the start")
    # Delivered again, as by a broker that thinks the first delivery lost: to both trainers.
    settings = Settings(broker_url=distributed.environment["XRAYCAM_BROKER_URL"])
    for _ in range(3):
        send_training(create_celery_app(settings), running)
    done = watched.wait(lambda t: t.has_ended, "the end", number)
    assert (done.state, done.start, done.epoch, done.error) == ("done", 1, 30, None)
    assert done.started_at is not None
    assert done.finished_at is not None
    assert (done.finished_at - done.started_at).total_seconds() > 4
    assert versions(distributed) == ["data-1"]


def test_a_busy_trainer_holds_no_other_training_and_a_stopped_one_hands_its_own_on(
    distributed: Installation, make_folder: MakeFolder, recipe_file: Path, valkey: Valkey
) -> None:
    data = make_folder("data", Clear=10, Opaque=10)
    trainer = distributed.start("worker", "--queues", "train", "--gpus", "none")
    wait_until(lambda: trainer_children(distributed), START_SECONDS, "a trainer")
    watched = Watched(distributed)
    long = train(distributed, data, "--recipe", recipe_file, "--set", "stages.0.epochs=900")
    watched.wait(lambda t: t.epoch >= 1, "an epoch", long)
    short = train(distributed, data, "--recipe", recipe_file)
    seen = watched.get(long)
    watched.wait(lambda t: t.epoch > seen.epoch + 2, "more epochs", long)
    assert valkey.client().llen("train") == 1

    trainer.terminate()
    trainer.wait(60)
    stopped = watched.get(long)
    assert (stopped.state, stopped.owner) == ("queued", None)
    start_trainer(distributed)
    going_on = watched.wait(lambda t: t.epoch > stopped.epoch, "an epoch on the next trainer", long)
    assert going_on.start == 2
    assert going_on.history[: stopped.epoch] == stopped.history
    distributed.xraycam("cancel", "--training", long)
    done = watched.wait(lambda t: t.has_ended, "the end of the short one", short)
    assert (done.state, done.version) == ("done", "data-2")


def test_without_servers_ctrl_c_leaves_a_training_that_can_be_resumed(
    alone: Installation, make_folder: MakeFolder, recipe_file: Path
) -> None:
    data = make_folder("data", Clear=10, Opaque=10)
    refused = alone.xraycam("train", data, status=2)
    assert refused.stderr.startswith("xraycam: no broker is configured to send the training to: add --wait")
    watched = Watched(alone)
    process = alone.start(
        "train", data, "--recipe", recipe_file, "--init-weights", "none", "--promote", "always",
        "--set", "stages.0.epochs=14", "--wait",
    )  # fmt: skip
    watched.wait(lambda t: t.epoch >= 2, "two epochs")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    stopped = watched.get()
    assert (stopped.state, stopped.version) == ("cancelled", None)
    assert "'xraycam train --resume 1' continues" in (alone.folder / "stderr.txt").read_text()
    assert alone.processes() == []

    resumed = alone.xraycam("train", "--resume", 1, "--version", "mine", "--wait", seconds=START_SECONDS)
    assert "training 1 made model mine" in resumed.stdout
    assert watched.get().history[: stopped.epoch] == stopped.history
    again = alone.xraycam("train", "--resume", 1, "--wait", status=2)
    assert "cannot be resumed: it is done and made model mine" in again.stderr


def test_a_training_that_nobody_serves_says_so(
    distributed: Installation, make_folder: MakeFolder, recipe_file: Path
) -> None:
    data = make_folder("data", Clear=10, Opaque=10)
    number = train(distributed, data, "--recipe", recipe_file)
    watching = distributed.start("watch", "--training", number)
    said = distributed.folder / "stderr.txt"
    wait_until(lambda: "start one with 'xraycam worker --queues train'" in said.read_text(), 60, "the hint")
    distributed.xraycam("cancel", "--training", number)
    assert watching.wait(30) == 3
    twice = distributed.xraycam("cancel", "--training", number)
    assert "cancelled" in twice.stdout


def test_a_preview_shows_samples_under_their_class(
    alone: Installation, make_folder: MakeFolder, recipe_file: Path
) -> None:
    from PIL import Image

    data = make_folder("data", Clear=5, Opaque=5)
    (data / "Clear" / "broken.png").write_bytes(b"not an image")
    shown = alone.xraycam("preview", data, "--output", "p.png", "--count", 3, "--recipe", recipe_file)
    assert "left out: " in shown.stderr
    assert "broken.png" in shown.stderr
    assert "Clear: 5 images, Opaque: 5 images" in shown.stderr
    with Image.open(alone.folder / "p.png") as picture:
        width, height = picture.size
    assert 4 / 3 < height / width < 4 / 3 * 1.25  # four rows of three, with their titles
    alone.xraycam("preview", data, "--output", "p.jpg", status=2)


def test_a_training_whose_message_was_lost_is_sent_again(
    distributed: Installation,
    make_folder: MakeFolder,
    recipe_file: Path,
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make_folder("data", Clear=10, Opaque=10)
    train(distributed, data, "--recipe", recipe_file)
    valkey.client().flushall()
    monkeypatch.setattr("worker.supervisor.reaper.LOST_SECONDS", 0.0)
    settings = Settings(broker_url=valkey.url, database_url=str(distributed.ledger.url))
    for _ in range(3):
        Reaper(settings, distributed.ledger).tick()
    assert valkey.client().llen("train") == 1
