"""The whole job on this machine: broker and workers started, a run or a training done, all stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr
from rich.console import Console

from db import runs
from db.errors import LedgerError
from db.ledger import Ledger
from db.runs import Run, stop_run
from db.trainings import QUEUED, Training, cancel_training, get_training
from producer.cli import INTERRUPTED
from producer.early_start import EarlyStart
from producer.interrupts import interrupt_once
from producer.private_broker import PrivateBroker
from producer.progress import ProgressDisplay, wait_for_run
from producer.publish import publish_chunks
from producer.run_summary import halted_status, summarize, unfinished_status
from producer.session import Session
from producer.status_line import doing, duration
from producer.training_progress import TrainingDisplay, report_training, wait_for_training
from producer.warm_channel import NotWarm
from producer.warm_workers import WarmWorkers, find_or_start_warm
from worker.counted_words import counted
from worker.errors import XraycamError
from worker.queue.broker import require_broker
from worker.queue.celery_app import create_celery_app
from worker.queue.messages import EXPLAIN_QUEUE, TRAIN_QUEUE, send_training
from worker.settings import Settings
from worker.supervisor.devices import devices_for
from worker.supervisor.reaper import ALL_WORK, ReaperScope
from worker.supervisor.supervisor import Supervisor


@dataclass
class LocalWorkers:
    """Workers of this machine; `settings` name the broker they listen to."""

    settings: Settings
    launcher: Supervisor
    broker: PrivateBroker | None
    is_idle: bool = False  # nothing waits for them nor is in their hands

    @property
    def has_private_broker(self) -> bool:
        return self.broker is not None

    def last_error(self) -> str:
        """The last error in the workers' logs; empty without one."""
        return next(filter(None, map(self.launcher.last_error_of, self.launcher.nodes)), "")

    def tick(self) -> bool:
        """Keep all alive; true when the broker had died, and with it its messages."""
        lost = self.broker is not None and self.broker.ensure()
        self.launcher.tick()
        if self.launcher.is_crash_looping:
            node = self.launcher.nodes[0]
            cause = self.launcher.last_error_of(node) or "no error is in their log"
            raise XraycamError(
                f"the workers end as soon as they are started: {cause}; their log is "
                f"{self.launcher.log_of(node)}, and 'xraycam doctor' checks what they need"
            )
        return lost


@contextmanager
def local_workers(
    settings: Settings,
    ledger: Ledger,
    gpus: str = "all",
    queues: Sequence[str] = (EXPLAIN_QUEUE,),
    run_id: int | None = None,
    everything: bool = False,
    early: EarlyStart | None = None,
    console: Console | None = None,
) -> Iterator[LocalWorkers]:
    """A broker, unless one is configured, and one worker per queue and device, for the time of the block.

    With a private broker they look after `run_id` alone: what else waits is not what was asked for, unless
    `everything` is. `early`: a private broker and workers that have been started already, for the same queues
    and `gpus`. `console`: where to say what is being started.
    """
    devices = devices_for(gpus) if early is None else early.devices
    with ExitStack() as started:
        broker, spawned = None, None
        if settings.broker is None:
            broker, spawned = (PrivateBroker(settings), None) if early is None else early.hand_over()
            started.callback(broker.stop)
            with doing(console, "starting the broker"):
                broker.ensure()
            settings = settings.model_copy(update={"broker_url": SecretStr(broker.url)})
            scope = ALL_WORK if everything else ReaperScope(run_id=run_id)
        else:
            require_broker(settings.broker)
            scope = ALL_WORK
        launcher = Supervisor(settings, ledger, devices, queues, settings.home / "logs", scope, spawned)
        fleet = LocalWorkers(settings, launcher, broker)
        started.callback(lambda: launcher.stop(idle=fleet.is_idle))
        launcher.start()
        yield fleet


@contextmanager
def workers_for_run(
    session: Session, run: Run, gpus: str, early: EarlyStart | WarmWorkers | None, keep_warm: float | None
) -> Iterator[LocalWorkers | WarmWorkers]:
    """Workers for the time of the block, those that are kept warm before others; `keep_warm`: seconds for
    which such are to stay afterwards. `early`: those that were found or started already."""
    if early is None and session.settings.broker is None:
        early = find_or_start_warm(session.settings, devices_for(gpus), keep_warm, session.tell)
    if isinstance(early, WarmWorkers):
        try:
            seconds = early.begin(run.id, keep_warm)
        except NotWarm as why:
            early.end()
            session.tell(f"workers kept warm are not used: {why}")
            early = None
        else:
            try:
                yield early
            finally:
                if not early.is_idle:
                    _wait_for_chunks(session, run)
                early.end()
            session.tell(
                f"workers stay warm for {duration(seconds)}; 'xraycam workers --stop-warm' ends them"
            )
            return
    with local_workers(
        session.settings, session.ledger, gpus, run_id=run.id, early=early, console=session.err
    ) as fleet:
        yield fleet


def _wait_for_chunks(session: Session, run: Run) -> None:
    """Wait until the leased chunks are finished, as whoever stops workers does."""
    end = time.monotonic() + session.settings.shutdown_grace_period
    with suppress(LedgerError):
        while session.ledger.query(runs.progress, run.id).leased_chunks and time.monotonic() < end:
            time.sleep(0.1)


class LocalRunSupervisor:
    """Keeps a fleet going, and sends a run's messages again when its private broker had to be restarted."""

    def __init__(self, fleet: LocalWorkers | WarmWorkers, ledger: Ledger, run: Run) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._run = run

    def tick(self) -> None:
        if self._fleet.tick():
            self.publish()

    def publish(self, on_wait: Callable[[], object] | None = None) -> int:
        """Send the run's unfinished chunks."""
        total = self._ledger.query(runs.progress, self._run.id).chunks

        def wait() -> None:
            self._fleet.tick()
            if on_wait is not None:
                on_wait()

        return publish_chunks(self._fleet.settings, self._ledger, self._run, total, wait)


def run_locally(
    session: Session,
    run: Run,
    gpus: str = "all",
    *,
    with_report: bool = True,
    early: EarlyStart | WarmWorkers | None = None,
    keep_warm: float | None = None,
) -> int:
    """Start workers, wait until the run is complete, stop them, print a summary; the exit status.

    A run that is cancelled or stopped elsewhere ends it, too, with the exit status of an interruption.

    `with_report`: write the report that opens from disk, too. `early`, `keep_warm`: as for `workers_for_run`.

    Whatever ends it before leaves the run stopped: nobody takes it up but `resume` or the same command.
    """
    if not session.ledger.query(runs.progress, run.id).is_complete:
        if (status := halted_status(session, run)) != 0:
            return status
        try:
            with (
                interrupt_once(),
                stopped_on_error(session.ledger, run),
                workers_for_run(session, run, gpus, early, keep_warm) as fleet,
                # Once more, before the workers are told to end: each finishes its chunk and takes no other.
                stopped_on_error(session.ledger, run),
            ):
                overseer = LocalRunSupervisor(fleet, session.ledger, run)
                with ProgressDisplay(session.err, session.ledger, run, log_error=fleet.last_error) as display:
                    overseer.publish(on_wait=display.update)
                    found = wait_for_run(display, session.ledger, run, overseer.tick)
                # A private broker has had no messages but those of this run.
                fleet.is_idle = found.is_complete and fleet.has_private_broker
        except KeyboardInterrupt:
            found = session.ledger.query(runs.progress, run.id)
            session.err.print(
                f"stopped: {found.done + found.failed} of {counted(found.images, 'image')} have a result; "
                f"'xraycam resume {run.id}' does the rest"
            )
            return INTERRUPTED
        # Asked once more: workers that were told to end have finished their chunks, which may be all.
        if not found.is_complete and (status := unfinished_status(session, run)) != 0:
            return status
    report = _report(session, run) if with_report else None
    return summarize(session, run, report)


def _report(session: Session, run: Run) -> Path | None:
    """The run's report; a run is no less complete where it could not be written."""
    from producer.viewer.progress import make_report

    try:
        return make_report(session, run).index
    except (XraycamError, LedgerError) as error:
        session.tell(f"no report: {error}; 'xraycam report {run.id} --output FOLDER' writes one elsewhere")
    except KeyboardInterrupt:
        session.tell(f"the report was interrupted; 'xraycam report {run.id}' writes it")
    return None


@contextmanager
def stopped_on_error(ledger: Ledger, run: Run) -> Iterator[None]:
    """Mark the run as stopped where the block is left by an error or an interrupt."""
    try:
        yield
    except BaseException:
        with suppress(LedgerError):
            ledger.write(stop_run, run.id)
        raise


def train_locally(session: Session, training: Training, gpus: str = "all") -> int:
    """Start a trainer, wait until the training has ended, stop the trainer; the exit status.

    Ctrl-C, and whatever keeps the trainer from starting, cancels the training, which stays resumable.
    """
    try:
        with (
            cancelled_on_error(session.ledger, training),
            interrupt_once(),
            local_workers(
                session.settings, session.ledger, gpus, queues=[TRAIN_QUEUE], console=session.err
            ) as fleet,
        ):
            overseer = _TrainingSupervisor(fleet)
            try:
                with TrainingDisplay(session.err, session.ledger, training.id) as display:
                    ended = wait_for_training(display, overseer.tick)
            except KeyboardInterrupt:
                # Told before the trainer is stopped: it ends after its current batch, not when killed.
                session.ledger.write(cancel_training, training.id)
                raise
    except KeyboardInterrupt:
        found = session.ledger.query(get_training, training.id)
        report_training(session, found)
        return INTERRUPTED if found.version is None else 0
    return report_training(session, ended)


@contextmanager
def cancelled_on_error(ledger: Ledger, training: Training) -> Iterator[None]:
    """Cancel the training where the block is left by an error or an interrupt."""
    try:
        yield
    except BaseException:
        with suppress(LedgerError):
            ledger.write(cancel_training, training.id)
        raise


class _TrainingSupervisor:
    """Keeps the trainer going, and sends the training, again where the private broker had to be restarted."""

    def __init__(self, fleet: LocalWorkers) -> None:
        self._fleet = fleet
        self._is_sent = False

    def tick(self, training: Training) -> None:
        broker_was_lost = self._fleet.tick()
        if training.state == QUEUED and (broker_was_lost or not self._is_sent):
            send_training(create_celery_app(self._fleet.settings), training)
            self._is_sent = True
