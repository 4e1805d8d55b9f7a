"""Servers, a model and workers whose accelerators are stand-ins that sleep, for measurements at scale."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from PIL import Image
from pydantic import SecretStr

from benchmarks.enqueue import PER_FOLDER, register_model
from db.ledger import Ledger
from db.workers import list_workers
from tests.support.servers import Postgres, Valkey
from worker.settings import Settings

COMMAND = Path(sys.executable).with_name("xraycam")
SABOTAGE = Path(__file__).resolve().parent.parent / "tests" / "support" / "sabotage"
# At most 65,000 links to one file on ext4: enough for four million.
DIFFERENT = 64


class StandInFleet:
    """Valkey, a ledger, a current model; `settings` and `environment` name them to us and to processes."""

    def __init__(self, folder: Path, broker: Valkey, database: str, **settings: str) -> None:
        self.folder = folder
        self.broker = broker
        home = folder / "home"
        register_model(database, home / "models", folder / "benchmark")
        self.settings = Settings(
            home=home, broker_url=SecretStr(broker.url), database_url=SecretStr(database), **settings
        )
        self.ledger = Ledger(database)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("XRAYCAM_")},
            **self.settings.as_environment(),
            "PYTHONPATH": str(SABOTAGE),
            "XRAYCAM_KEEP_ENV": "PYTHONPATH, SABOTAGE_*",
        }

    @contextmanager
    def workers(self, accelerators: int, seconds_per_image: float) -> Iterator[subprocess.Popen[bytes]]:
        """`xraycam worker` with so many accelerators, all ready; yields its launcher."""
        environment = self.environment | {
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(accelerators))),
            "SABOTAGE_EXPLAINER": str(seconds_per_image),
        }
        with (self.folder / "worker.log").open("ab") as log:
            launcher = subprocess.Popen(
                [COMMAND, "worker"], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            while sum(bool(one.model_version) for one in self.ledger.query(list_workers)) < accelerators:
                assert launcher.poll() is None, (self.folder / "worker.log").read_text()[-2000:]
                time.sleep(0.2)
            yield launcher
        finally:
            launcher.send_signal(signal.SIGTERM)
            launcher.wait()


@contextmanager
def stand_in_fleet(folder: Path, *, postgres: bool, **settings: str) -> Iterator[StandInFleet]:
    """Servers for the time of the block; Postgres writes through to the disk, as it does in earnest."""
    with ExitStack() as ends:
        broker = Valkey()
        ends.callback(broker.remove)
        broker.start()
        url = f"sqlite:///{folder / 'home' / 'ledger.sqlite3'}"
        if postgres:
            server = Postgres()
            ends.callback(server.remove)
            server.start(fsync="on")
            url = server.new_database()
        yield StandInFleet(folder, broker, url, **settings)


def link_images(folder: Path, count: int) -> Path:
    """Very small PNG files, 1,000 a folder: hard links to a few that differ."""
    originals = folder.with_name(f"{folder.name}-originals")
    originals.mkdir()
    for number in range(DIFFERENT):
        image = Image.linear_gradient("L").resize((32, 32))
        image.putpixel((0, 0), number * 255 // DIFFERENT)
        image.save(originals / f"{number}.png")
    for first in range(0, count, PER_FOLDER):
        below = folder / f"{first // PER_FOLDER:05d}"
        below.mkdir(parents=True)
        for number in range(first, min(first + PER_FOLDER, count)):
            (below / f"patient-{number:08d}.png").hardlink_to(originals / f"{number % DIFFERENT}.png")
    return folder
