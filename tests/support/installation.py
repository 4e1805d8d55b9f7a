"""An installation of xraycam in a folder of its own, driven through its command line as people drive it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import URL, func, select

from db.ledger import Ledger
from db.models import Model
from db.schema import chunks, images, results
from producer.phantoms import make_phantoms
from tests.support.servers import PATIENCE, PatientProcess, wait_until
from worker.settings import PREFIX

InstallModel = Callable[[Ledger, Path], Model]

COMMAND = Path(sys.executable).with_name("xraycam")
# Makes decoding slow, or fatal for one image: see its docstring.
SABOTAGE = Path(__file__).parent / "sabotage"


def unavailable(reason: str) -> None:
    """Skip a test that needs something which is not here; on CI it must be here."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class Installation:
    """One home, one ledger, one environment; `stop_all` ends every process started here."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        self.environment |= {"XRAYCAM_HOME": str(self.home), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.set(**settings)
        self._started: list[PatientProcess] = []

    def set(self, **settings: Any) -> None:
        """Change settings: `chunk_size=8` is XRAYCAM_CHUNK_SIZE."""
        for name, value in settings.items():
            self.environment[PREFIX + name.upper()] = str(value)

    def sabotage(self, **how: Any) -> None:
        """Sabotage the decoding of workers started from now on; see `tests/support/sabotage`."""
        self.environment |= {"PYTHONPATH": str(SABOTAGE), "XRAYCAM_KEEP_ENV": "PYTHONPATH, SABOTAGE_*"}
        for name, value in how.items():
            self.environment[f"SABOTAGE_{name.upper()}"] = str(value)

    def without_tensorflow(self, seconds: float = 0.0) -> None:
        """Have a stand-in explain, in workers started from now on, so many seconds an image: for tests that
        are about queue, ledger and files. The process that explains starts in a sixth of the time."""
        self.sabotage(explainer=seconds)

    def with_short_trainings(self) -> None:
        """Trainings in processes started from now on take a fifth of the time: see `short_training.py`."""
        self.sabotage(training=1)

    @property
    def ledger(self) -> Ledger:
        ours = URL.create("sqlite", database=str(self.home / "ledger.sqlite3"))
        return Ledger(self.environment.get("XRAYCAM_DATABASE_URL") or ours.render_as_string())

    def xraycam(self, *arguments: object, status: int | None = 0, seconds: float = 120) -> Any:
        """Run the command line to its end; `status` is the exit status it must have, None: any."""
        done = subprocess.run(
            [str(COMMAND), *map(str, arguments)],
            env=self.environment, cwd=self.folder, capture_output=True, text=True, check=False,
            timeout=PATIENCE * seconds,
        )  # fmt: skip
        if status is not None:
            assert done.returncode == status, (
                f"{done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
            )
        return done

    def start(self, *arguments: object) -> PatientProcess:
        """Start the command line and leave it running."""
        process = PatientProcess(
            [str(COMMAND), *map(str, arguments)],
            env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=(self.folder / "stderr.txt").open("a"), text=True, start_new_session=True,
        )  # fmt: skip
        self._started.append(process)
        return process

    def logs(self) -> str:
        """The last words of all workers, for the message of a failed test."""
        files = [*self.home.glob("logs/*.log"), self.folder / "stderr.txt"]
        return "\n".join(f"--- {file}\n{file.read_text()[-3000:]}" for file in files if file.exists())

    def told(self) -> str:
        """What the commands that were left running said on standard error."""
        file = self.folder / "stderr.txt"
        return file.read_text() if file.exists() else ""

    def counts(self, run: int = 1) -> dict[str, int]:
        """Rows of a run counted one by one: images, and results by status."""
        with self.ledger.read() as connection:
            asked = connection.execute(select(func.count()).where(images.c.run_id == run)).scalar_one()
            ended = connection.execute(
                select(results.c.status, func.count())
                .where(results.c.run_id == run)
                .group_by(results.c.status)
            )
            return {"images": asked, **dict(ended.all())}

    def some_done(self, at_least: int, run: int = 1) -> bool:
        return self.counts(run).get("done", 0) >= at_least

    def wait_done(self, at_least: int, run: int = 1, seconds: float = 120) -> None:
        """Wait until so many images of a run are done."""
        try:
            wait_until(lambda: self.some_done(at_least, run), seconds, f"{at_least} images done")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.counts(run)}\n{self.logs()}") from error

    def wait_complete(self, run: int = 1, seconds: float = 120) -> None:
        def complete() -> bool:
            found = self.counts(run)
            return found["images"] > 0 and found["images"] == found.get("done", 0) + found.get("failed", 0)

        try:
            wait_until(complete, seconds, f"run {run} complete")
        except AssertionError as error:
            with self.ledger.read() as connection:
                rows = connection.execute(select(chunks).where(chunks.c.finished_at.is_(None)).limit(5)).all()
            raise AssertionError(f"{error}: {self.counts(run)}, {rows}\n{self.logs()}") from error

    def processes(self) -> list[int]:
        """Every process that runs with this home in its environment, or as its private broker."""
        return list(processes_with(f"XRAYCAM_HOME={self.home}".encode()))

    def kill(self, process: int, number: int = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)

    def stop_all(self) -> None:
        """End what was started here, at once: workers take seconds to end well."""
        while found := self.processes():
            for number in found:
                self.kill(number)
            for process in self._started:
                process.poll()  # lets go of those that ended
            time.sleep(0.02)


def processes_with(entry: bytes) -> Iterable[int]:
    """Processes, apart from this one, with an environment that holds `entry`."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                if entry in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)
            except OSError:
                continue


def command_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def parent_of(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def children_of(parents: Iterable[int], command: str) -> list[int]:
    """Processes whose command line holds `command`, started by one of `parents`."""
    wanted = set(parents)
    numbers = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return [number for number in numbers if parent_of(number) in wanted and command in command_of(number)]


def draw_xrays(folder: Path, count: int) -> Path:
    """A folder with small synthetic X-rays."""
    make_phantoms(folder, count, seed=3, size=128)
    return folder


def draw_many(folder: Path, count: int) -> Path:
    """A folder with very small images, all different, where only their number matters."""
    folder.mkdir()
    for number in range(count):
        image = Image.linear_gradient("L").resize((32, 32))
        image.putpixel((0, 0), number % 256)
        image.save(folder / f"image-{number:04}.png")
    return folder


def refused(installation: Installation, *arguments: object) -> str:
    """The one line that a command prints which refuses what it was given."""
    done = installation.xraycam(*arguments, status=2)
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return str(done.stderr)
