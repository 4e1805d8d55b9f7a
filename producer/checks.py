"""Looking at everything xraycam depends on, one thing after the other, whatever the others say."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from db.errors import LedgerError
from db.ledger import Ledger
from db.migrate import migrate
from producer.known_workers import live_workers
from worker.counted_words import counted
from worker.environment import KEEP_ENV, child_environment, python_command
from worker.errors import XraycamError
from worker.model.store import ensure_current_model, store_of
from worker.queue.broker import client, queue_length, redact_url, require_broker
from worker.queue.messages import EXPLAIN_QUEUE
from worker.settings import Settings
from worker.supervisor.devices import list_gpus

IMPORT_SECONDS = 120.0


@dataclass(frozen=True)
class Check:
    """One finding; `ok` is None where there is nothing to judge."""

    name: str
    ok: bool | None
    message: str


def run_checks(settings: Settings) -> Iterator[Check]:
    yield Check("home", *_home(settings))
    yield Check("imports", *_imports(settings))
    try:
        ledger = Ledger(settings.database, retry_timeout=1.0)
        migrate(ledger)
        yield Check("database", True, str(ledger))
    except LedgerError as error:
        yield Check("database", False, str(error))
        yield Check("model store", None, f"{store_of(settings)}: not checked without the database")
        yield from _broker(settings)
        yield Check("gpus", None, _gpus())
        return
    try:
        store = store_of(settings)
        model = ensure_current_model(ledger, store)
        store.size(model.version)  # the store itself must answer, not only our copy
        store.fetch(model.version, model.digest)
        yield Check("model store", True, f"{store}: current is {model.version}, {model.source}")
    except (XraycamError, LedgerError, OSError) as error:
        yield Check("model store", False, str(error))
    yield from _broker(settings)
    yield Check("gpus", None, _gpus())
    live = live_workers(ledger)
    yield Check("workers", None, f"{len(live)} live")
    for worker in live:
        message = worker.last_error or f"{worker.device}, model {worker.model_version or 'not loaded yet'}"
        yield Check(f"  {worker.name}", worker.last_error is None, message)


def _home(settings: Settings) -> tuple[bool, str]:
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return False, f"{settings.home} cannot be made: {error.strerror}; set XRAYCAM_HOME to another folder"
    if not os.access(settings.home, os.W_OK):
        return False, f"{settings.home} is not writable; set XRAYCAM_HOME to a folder of yours"
    free = shutil.disk_usage(settings.home).free
    return True, f"{settings.home}, {free / 1e9:.0f} GB free"


def _imports(settings: Settings) -> tuple[bool, str]:
    """Whether what a worker needs can be imported in the environment that workers get."""
    environment = child_environment(settings, TF_CPP_MIN_LOG_LEVEL="3")
    command = python_command("worker.supervisor.check_imports")
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False, f"TensorFlow is not imported after {IMPORT_SECONDS:.0f} s; is the disk slow or full?"
    if done.returncode == 0:
        return True, done.stdout.strip()
    cause = (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]
    kept = f"; {KEEP_ENV}={settings.keep_env} may let in what breaks it" if settings.keep_env else ""
    return False, f"workers cannot start: {cause}; install xraycam in a virtual environment of its own{kept}"


def _broker(settings: Settings) -> Iterator[Check]:
    if settings.broker is None:
        yield Check("broker", None, "none configured: 'xraycam run' starts a private one")
        return
    try:
        require_broker(settings.broker)
        waiting = queue_length(settings.broker, EXPLAIN_QUEUE)
    except XraycamError as error:
        yield Check("broker", False, str(error))
        return
    yield Check("broker", True, f"{redact_url(settings.broker)}, {counted(waiting, 'message')} waiting")
    persistence = client(settings.broker).info("persistence")
    if not persistence.get("aof_enabled"):
        yield Check(
            "broker", None, "keeps no append-only file: if it is killed, 'xraycam resume' sends lost work"
        )


def _gpus() -> str:
    gpus = list_gpus()
    return f"{len(gpus)}: {', '.join(gpus)}" if gpus else "none found: one worker on the CPU"
