"""A training publishes while a run is in progress: is anything lost, and does the work stall?

    python -m benchmarks.model_swap ../shared/data/shenzhen --images 2000
    python -m benchmarks.model_swap                       # synthetic X-rays

Real parts: a Valkey server, two workers and a trainer as `xraycam worker` starts them, a training as
`xraycam train` sends it. Prints images by model version, rows done twice or lost, how long each worker
took to change, and the images/s around the change against those before the training ended and after.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click
from sqlalchemy import func, select

from db import runs
from db.ledger import Ledger
from db.models import current_model
from db.schema import models, results
from db.trainings import PUBLISHING, get_training
from db.workers import list_workers
from producer.phantoms import make_phantoms
from producer.private_broker import PrivateBroker
from worker.settings import Settings

COMMAND = Path(sys.executable).with_name("xraycam")


@dataclass(frozen=True)
class Place:
    environment: dict[str, str]
    folder: Path

    def xraycam(self, *arguments: object) -> str:
        done = subprocess.run(
            [str(COMMAND), *map(str, arguments)], env=self.environment, cwd=self.folder, check=True,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return done.stdout.strip()

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        log = (self.folder / "workers.log").open("ab")
        return subprocess.Popen(
            [str(COMMAND), *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            stdout=log,
            stderr=log,
        )


@click.command()
@click.argument("dataset", type=click.Path(exists=True, file_okay=False, path_type=Path), required=False)
@click.option("--images", default=2000, show_default=True, help="Images in the run.")
@click.option("--recipe", default="reference", show_default=True, help="How to train.")
@click.option("--epochs", default=8, show_default=True, help="Epochs of the training's first stage.")
@click.option("--init-weights", default="none", show_default=True, help="Weights the training starts from.")
def main(dataset: Path | None, images: int, recipe: str, epochs: int, init_weights: str) -> None:
    """Train on DATASET and publish in the middle of a run over its images."""
    work = Path(tempfile.mkdtemp(prefix="xraycam-swap-"))
    broker = PrivateBroker(Settings(home=work / "home"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        broker.ensure()
        stack.callback(broker.stop)
        if dataset is None:
            dataset = work / "dataset"
            make_phantoms(dataset, 200, seed=1, classes=True)
        xrays = _many(dataset, work / "xrays", images)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XRAYCAM_")}
        environment |= {
            "XRAYCAM_HOME": str(work / "home"),
            "XRAYCAM_BROKER_URL": broker.url,
            "XRAYCAM_CHUNK_SIZE": "16",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        place = Place(environment, work)
        print(place.xraycam("doctor"))
        ledger = Ledger(f"sqlite:///{work / 'home' / 'ledger.sqlite3'}")
        for arguments in (["worker"], ["worker"], ["worker", "--queues", "train"]):
            process = place.start(*arguments)
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
        explainers = 2
        while sum(worker.model_version is not None for worker in ledger.query(list_workers)) < explainers:
            time.sleep(0.2)

        training = place.xraycam(
            "train", dataset.absolute(), "--recipe", recipe, "--set", f"stages.0.epochs={epochs}",
            "--init-weights", _absolute(init_weights), "--promote", "always",
        )  # fmt: skip
        while ledger.query(get_training, int(training)).stage not in ("comparing", PUBLISHING):
            time.sleep(0.1)  # what is left is to publish: the run will be under way
        run = int(place.xraycam("enqueue", xrays))
        before = ledger.query(current_model)
        assert before is not None
        ended, changed, promoted = _observe(ledger, run, before.version)
        print(f"training {training}: {place.xraycam('watch', '--training', training, '--once')}")
        _report(ledger, run, images, ended, changed, promoted)


def _absolute(source: str) -> str:
    """A file by its whole path, since the commands run elsewhere; a name as it is."""
    return str(Path(source).absolute()) if Path(source).exists() else source


def _many(dataset: Path, folder: Path, count: int) -> Path:
    files = sorted(file for file in dataset.glob("*/*.png"))
    folder.mkdir()
    for number in range(count):
        shutil.copy(files[number % len(files)], folder / f"{number:05}.png")
    return folder


def _observe(
    ledger: Ledger, run: int, before: str
) -> tuple[list[tuple[float, int]], dict[str, float], float | None]:
    """Images ended by time, when which worker changed its model, and when the new one was promoted."""
    ended: list[tuple[float, int]] = []
    changed: dict[str, float] = {}
    promoted: float | None = None
    start = time.monotonic()
    while True:
        moment = time.monotonic() - start
        found = ledger.query(runs.progress, run)
        ended.append((moment, found.done + found.failed))
        current = ledger.query(current_model)
        if promoted is None and current is not None and current.version != before:
            promoted = moment
        for worker in ledger.query(list_workers):
            if worker.model_version not in (None, before) and worker.name not in changed:
                changed[worker.name] = moment
        if found.is_complete:
            return ended, changed, promoted
        time.sleep(0.05)


def _report(
    ledger: Ledger,
    run: int,
    images: int,
    ended: list[tuple[float, int]],
    changed: dict[str, float],
    promoted: float | None,
) -> None:
    found = ledger.query(runs.progress, run)
    with ledger.read() as connection:
        versions = connection.execute(
            select(results.c.model_version, func.count()).group_by(results.c.model_version)
        ).all()
        tries = connection.execute(select(func.max(results.c.attempts))).scalar_one()
        known = connection.execute(select(models.c.version, models.c.promoted_at)).all()
    print(f"done {found.done} of {images}, failed {found.failed}, most attempts of an image {tries}")
    print("images by version:", dict(versions), "| versions:", [row.version for row in known])
    if promoted is None or not changed:
        raise SystemExit("the run was over before the training: take more images")
    for name, moment in changed.items():
        print(f"{name} holds the new version {moment - promoted:.1f} s after it was promoted")
    last = max(changed.values())
    rates = [(second, _at(ended, second + 1) - _at(ended, second)) for second in range(int(ended[-1][0]) - 1)]
    swap = [rate for second, rate in rates if promoted - 1 <= second <= last]
    earlier = [rate for second, rate in rates if second < promoted - 1]
    later = [rate for second, rate in rates if second > last + 1]
    print(
        f"images/s, median: {_median(earlier)} before (training beside it), "
        f"{_median(swap)} during the change (least in one second {min(swap, default=0)}), "
        f"{_median(later)} after"
    )


def _median(rates: list[int]) -> str:
    return f"{statistics.median(rates):.0f}" if rates else "none"


def _at(ended: list[tuple[float, int]], moment: float) -> int:
    return max((count for seconds, count in ended if seconds <= moment), default=0)


if __name__ == "__main__":
    main()
