"""The loop of a station: what is received is explained, and its results are sent back."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from db import runs
from db.errors import RunNotFound
from db.runs import HALTED, Run, get_run, stop_run
from producer.enqueue import Request, enqueue
from producer.interrupts import interrupt_once
from producer.local_run import LocalWorkers, local_workers
from producer.pacs.export import ExportOptions, export_run
from producer.pacs.outgoing import TargetAway
from producer.pacs.receiver import Receiver, StudyState, is_done, mark_done, state_of
from producer.pacs.targets import open_target
from producer.publish import publish_chunks
from producer.session import Session
from worker.counted_words import counted
from worker.errors import XraycamError
from worker.settings import Settings

_TICK = 0.5
# Between two tries to send to a target that did not answer.
_PAUSE = 30.0
_LONGEST_WAIT = 5.0
_RESULTS = ExportOptions(frozenset({"capture", "report"}))


@dataclass
class _Explained:
    """A study that is being explained, or waits to be sent until `not_before` (monotonic seconds).
    `halted`: the state, already told, in which somebody else has put its run."""

    run: Run
    state: StudyState
    not_before: float = 0.0
    halted: str | None = None


class Station:
    """Explains studies that have been quiet for `quiet` seconds; sends results to `output`, if any."""

    def __init__(
        self, session: Session, receiver: Receiver, request: Request, quiet: float, output: str | None
    ) -> None:
        self._session = session
        self._receiver = receiver
        self._request = request
        self._quiet = quiet
        self._output = output
        self._settings = session.settings
        self._open: dict[Path, _Explained] = {}
        self._done: dict[Path, int] = {}  # when a study's folder was changed last, of those that are done
        # Monotonic seconds: until then nothing is sent to a target that is away, nor enqueued after an error.
        self._not_before = self._enqueue_after = 0.0

    def serve(self, gpus: str, until: Callable[[], bool] = lambda: False) -> None:
        """Run until interrupted, or `until` says so. Without a broker, workers are started here."""
        with ExitStack() as started:
            started.enter_context(interrupt_once())
            fleet = None
            if self._settings.broker is None:
                fleet = started.enter_context(
                    local_workers(self._settings, self._session.ledger, gpus, everything=True)
                )
                self._settings = fleet.settings
            # Stopped first: what is not acknowledged is sent again.
            started.callback(self._receiver.stop)
            self._receiver.start()
            while not until():
                self._tick(fleet)
                time.sleep(_TICK)

    def _tick(self, fleet: LocalWorkers | None) -> None:
        if fleet is not None and fleet.tick():
            for study in self._open.values():
                self._publish(study.run)
        for folder in self._receiver.studies():
            self._look_at(folder)
        for folder, study in list(self._open.items()):
            if not folder.is_dir():
                self._forget(folder, study)
            elif time.monotonic() >= max(study.not_before, self._not_before) and self._has_ended(
                folder, study
            ):
                self._finish(folder, study)

    def _look_at(self, folder: Path) -> None:
        """Explain a study that is quiet and holds something new."""
        try:
            # Asked before the files are: what comes later changes it again.
            changed = folder.stat().st_mtime_ns
            if self._done.get(folder) == changed:
                return
            state = state_of(folder)
        except FileNotFoundError:  # deleted since it was listed
            return
        if is_done(folder, state):
            self._done[folder] = changed
            return
        known = self._open.get(folder)
        if (known is None or known.state != state) and state.is_quiet(self._quiet):
            self._explain(folder, state)

    def _explain(self, folder: Path, state: StudyState) -> None:
        if time.monotonic() < self._enqueue_after:
            return
        try:
            run = enqueue(
                self._session.ledger, self._session.settings, replace(self._request, folder=folder)
            ).run
        except XraycamError as error:
            self._session.tell(str(error))
            self._enqueue_after = time.monotonic() + _PAUSE
            return
        self._open[folder] = _Explained(run, state)
        self._publish(run)

    def _publish(self, run: Run) -> None:
        chunks = self._session.ledger.query(runs.progress, run.id).chunks
        publish_chunks(self._settings, self._session.ledger, run, chunks)

    def _has_ended(self, folder: Path, study: _Explained) -> bool:
        """Whether all images of a study have results. Tells where somebody cancelled or deleted its run,
        which else would be waited for, or taken for one of no images, without a word."""
        number = study.run.id
        try:
            state = self._session.ledger.query(get_run, number).state
        except RunNotFound:
            self._session.tell(f"run {number} was deleted: its study is explained again, {folder}")
            del self._open[folder]
            return False
        found = self._session.ledger.query(runs.progress, number)
        halted = state if state in HALTED and not found.is_complete else None
        if halted is not None and halted != study.halted:
            left = counted(found.pending, "image")
            self._session.tell(
                f"run {number} was {halted}: {left} of its study without a result; 'xraycam resume {number}' "
                "does the rest, and only then it is done"
            )
        study.halted = halted
        return found.is_complete

    def _finish(self, folder: Path, study: _Explained) -> None:
        found = self._session.ledger.query(runs.progress, study.run.id)
        words = f"run {study.run.id}: {found.done} done, {found.failed} failed"
        if self._output is not None:
            try:
                # Studies that wait to be explained do not wait for a target that is away.
                patience = min(_LONGEST_WAIT, self._settings.pacs_timeout)
                settings = self._settings.model_copy(update={"pacs_timeout": patience})
                sent, is_whole = send(self._session, settings, study.run, self._output)
            except TargetAway as error:
                self._session.tell(str(error))
                self._not_before = time.monotonic() + _PAUSE
                return
            words += f"; {sent}"
            if not is_whole:
                study.not_before = time.monotonic() + 10 * _PAUSE
                self._session.tell(words)
                return
        try:
            mark_done(folder, study.state)
        except FileNotFoundError:
            self._forget(folder, study, words)
            return
        self._session.tell(words)
        del self._open[folder]

    def _forget(self, folder: Path, study: _Explained, words: str | None = None) -> None:
        """Give up a study whose folder was deleted, and what is left of its run: its images can be neither
        read nor sent. `words`: what came of it so far."""
        self._session.ledger.write(stop_run, study.run.id)
        begun = f"run {study.run.id}" if words is None else words
        self._session.tell(f"{begun}: its study was deleted, {folder}; send it again for its results")
        del self._open[folder]


def send(session: Session, settings: Settings, run: Run, output: str) -> tuple[str, bool]:
    """Send a run's captures and reports; what came of it in words, and whether nothing is left to be sent."""
    target = open_target(output, settings)
    try:
        counts = export_run(session.ledger, settings, run, target, _RESULTS, session.tell)
    finally:
        target.close()
    words = [f"{count} {state}" for state, count in counts.fates.items()]
    words += [f"{counts.unchanged} there already"] if counts.unchanged else []
    words += [f"{counted(count, 'image')} failed: {reason}" for reason, count in counts.failed.items()]
    # What cannot become an object now never will; what was refused may be taken later.
    return ", ".join(words) or "nothing to send", set(counts.fates) <= {"sent"}
