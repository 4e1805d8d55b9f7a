"""The side of a command: workers kept warm are found, used for one run, asked about, ended."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from producer.warm_channel import Channel, Closed, Message, NotWarm, connect
from worker.environment import child_environment, python_command
from worker.errors import XraycamError
from worker.queue.messages import EXPLAIN_QUEUE
from worker.settings import Settings
from worker.supervisor.devices import Device
from worker.supervisor.spawn import worker_environment

# The other side looks at its channels four times a second, and at the ledger in between.
ANSWER_SECONDS = 10.0
START_SECONDS = 60.0
_OURS = ("db", "producer", "worker")
# Of a terminal or its session, or read by commands alone.
_OF_NO_WORKER = (
    "PWD", "SHELL", "XDG_SESSION_*", "XDG_SEAT*", "XDG_VTNR", "XRAYCAM_OUTPUT", "XRAYCAM_DICOM_*",
    "XRAYCAM_DICOMWEB_*", "XRAYCAM_PACS_TIMEOUT", "XRAYCAM_SPOOL_BYTES", "XRAYCAM_INIT_WEIGHTS",
    "XRAYCAM_TRAIN_CACHE_BYTES", "XRAYCAM_PROMOTE_TOLERANCE",
)  # fmt: skip


@dataclass(frozen=True)
class WarmStatus:
    """What the process that keeps workers warm says of itself. `run`: whose images they explain now."""

    pid: int
    workers: tuple[str, ...]
    run: int | None
    until: datetime


class WarmWorkers:
    """Workers of another process that are ours from `begin` to `end`; `settings` name their broker."""

    has_private_broker = True

    def __init__(self, settings: Settings, channel: Channel, *, is_starting: bool) -> None:
        self.settings = settings
        self.is_idle = False
        self._channel = channel
        self._is_starting = is_starting
        self._error = ""

    def begin(self, run_id: int, keep: float | None = None) -> float:
        """Have them work for this run; `keep`: seconds to stay from its end on, None: as before. How long
        that is.

        Raises NotWarm where others are to be started, XraycamError where those would fail too.
        """
        try:
            if self._is_starting:
                answer = _answer(self._channel, START_SECONDS)
                self.settings = _with_broker(self.settings, answer)
            self._channel.send(ask="run", run=run_id, keep=keep, ledger=ledger_file(self.settings))
            return float(_answer(self._channel, ANSWER_SECONDS)["seconds"])
        except Closed:
            raise NotWarm("they ended") from None

    def tick(self) -> bool:
        """Whether their broker had died, and with it its messages. Raises XraycamError where they ended."""
        lost = False
        try:
            while (event := self._channel.receive(0)) is not None:
                if "failed" in event:
                    raise XraycamError(str(event["failed"]))
                lost = lost or bool(event.get("lost"))
                self._error = str(event.get("error", self._error))
        except Closed:
            raise XraycamError(
                f"the workers kept warm were ended; {log_file(self.settings)} may say why"
            ) from None
        return lost

    def last_error(self) -> str:
        """The last error in their logs; empty without one."""
        return self._error

    def end(self) -> None:
        """Leave them to the next command; once more does nothing."""
        with suppress(Closed):
            self._channel.send(ask="end", idle=self.is_idle)
        self._channel.close()


def find_or_start_warm(
    settings: Settings, devices: Sequence[Device], keep: float | None, tell: Callable[[str], object]
) -> WarmWorkers | None:
    """Warm workers for one run: the home's, or with `keep` others, which are to stay for so many seconds.

    None where there are none for us; `tell` is told why those of the home are not. Raises OSError.
    """
    try:
        found = claim_warm(settings, devices)
    except NotWarm as why:
        tell(f"workers kept warm are not used: {why}")
        if keep is None or not why.make_room:
            return None
        stop_warm(settings)
        found = None
    return start_warm(settings, devices, keep) if found is None and keep is not None else found


def claim_warm(settings: Settings, devices: Sequence[Device]) -> WarmWorkers | None:
    """The home's warm workers for one run; None: there are none. Raises NotWarm where they are not for us."""
    channel = connect(settings)
    if channel is None:
        return None
    try:
        channel.send(ask="use", **_request(settings, devices))
        answer = _answer(channel, ANSWER_SECONDS)
    except Closed:
        channel.close()
        return None  # their time was over just now
    except BaseException:
        channel.close()
        raise
    return WarmWorkers(_with_broker(settings, answer), channel, is_starting=False)


def start_warm(settings: Settings, devices: Sequence[Device], keep: float) -> WarmWorkers:
    """Workers for one run in a process that outlives us, by `keep` seconds; started, not waited for.

    Raises OSError.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        log = log_file(settings)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            subprocess.Popen(
                python_command("producer.warm_process"),
                env=child_environment(settings),
                # Our packages, and no folder of the user's that could then not be unmounted.
                cwd=Path(__file__).resolve().parents[2],
                stdin=theirs.fileno(),
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
    channel = Channel(ours)
    with suppress(Closed):  # told when the run begins
        channel.send(ask="use", keep=keep, **_request(settings, devices))
    return WarmWorkers(settings, channel, is_starting=True)


def warm_status(settings: Settings) -> WarmStatus | None:
    """None where no workers are kept warm for this home on this machine, or they do not answer."""
    answer = _ask(settings, "status")
    if answer is None:
        return None
    until = datetime.now() + timedelta(seconds=float(answer["seconds"]))
    return WarmStatus(int(answer["pid"]), tuple(answer["workers"]), answer["run"], until)


def stop_warm(settings: Settings) -> WarmStatus | None:
    """Have them end, after their run if they have one; how they stood, None where there were none."""
    found = warm_status(settings)
    if found is not None:
        _ask(settings, "stop")
    return found


def _ask(settings: Settings, what: str) -> Message | None:
    try:
        channel = connect(settings)
    except NotWarm:
        return None
    if channel is None:
        return None
    try:
        channel.send(ask=what)
        return _answer(channel, ANSWER_SECONDS)
    except (Closed, NotWarm):
        return None
    finally:
        channel.close()


def _answer(channel: Channel, seconds: float) -> Message:
    """Raises Closed, NotWarm with the reason of a refusal, XraycamError for what fails in any case."""
    answer = channel.receive(seconds)
    if answer is None:
        raise NotWarm("they do not answer")
    if "refused" in answer:
        raise NotWarm(str(answer["refused"]), make_room=bool(answer.get("others")))
    if "failed" in answer:
        raise XraycamError(str(answer["failed"]))
    return answer


def _with_broker(settings: Settings, answer: Message) -> Settings:
    return settings.model_copy(update={"broker_url": SecretStr(str(answer["broker"]))})


def log_file(settings: Settings) -> Path:
    return settings.home / "logs" / "warm.log"


def ledger_file(settings: Settings) -> list[int] | None:
    """What tells a SQLite ledger's file from one that was put in its place; None for others."""
    from sqlalchemy import make_url

    url = make_url(settings.database)
    if not url.drivername.startswith("sqlite") or not url.database or url.database.startswith("file:"):
        return None
    try:
        found = Path(url.database).stat()
    except OSError:
        return [0, 0]
    return [found.st_dev, found.st_ino]


def _request(settings: Settings, devices: Sequence[Device]) -> Message:
    """All that must be equal for a worker to do as one started now would."""
    environment = worker_environment(settings, EXPLAIN_QUEUE, devices[0], len(devices))
    ours = {
        name: value
        for name, value in environment.items()
        if not any(fnmatchcase(name, pattern) for pattern in _OF_NO_WORKER)
    }
    ours |= {"XRAYCAM_DATABASE_URL": settings.database, "XRAYCAM_MODELS": settings.model_store}
    return {
        "environment": ours,
        "devices": [[device.name, device.visible] for device in devices],
        "program": _program(),
    }


def _program() -> str:
    """A hash of what this program is: our files, Python, and when packages were last changed."""
    root = Path(__file__).resolve().parents[2]
    files = sorted(file for room in _OURS for file in (root / room).rglob("*.py"))
    found = [(str(file), file.stat()) for file in files]
    stamps: list[Any] = [[name, status.st_size, status.st_mtime_ns] for name, status in found]
    for package in ("celery", "tensorflow"):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            stamps.append(Path(spec.origin).parents[1].stat().st_mtime_ns)
    return hashlib.sha256(json.dumps([sys.executable, version_of("xraycam"), stamps]).encode()).hexdigest()


def difference(known: Message, asked: Message) -> str | None:
    """Why workers of one request are not for another; None: they are."""
    if known["program"] != asked["program"]:
        return "xraycam or its packages were changed since they were started"
    if known["devices"] != asked["devices"]:
        used = ", ".join(name for name, _ in known["devices"])
        return f"they use other devices: {used}"
    ours, theirs = known["environment"], asked["environment"]
    if ours != theirs:
        names = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
        return f"they were started with another {', '.join(names)}"
    return None
