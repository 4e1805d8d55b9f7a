"""How far a run is, shown from the ledger alone; and why it does not move."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as ProgressBar
from rich.text import Text

from db import runs
from db.ledger import Ledger
from db.runs import HALTED, OPEN, SCANNING, Progress, Run, get_run
from db.workers import Worker
from producer.interrupts import raise_if_interrupted
from producer.known_workers import live_workers
from producer.session import Session
from producer.stall_notice import StallNotice, why_not_moving
from producer.status_line import LINE_SECONDS, time_left
from producer.warm_workers import warm_status
from worker.counted_words import counted
from worker.queue.broker import BrokerUnreachable, queue_length
from worker.queue.messages import EXPLAIN_QUEUE


def stall_reason(session: Session, run_id: int, found: Progress, workers: int) -> str | None:
    """Why a run does not move and how it continues, in one line; None while it moves.

    `workers`: how many are live.
    """
    state = session.ledger.query(get_run, run_id).state
    if state == SCANNING:
        return "its folder is being scanned; if that was interrupted, the same command continues it"
    if state in HALTED and not found.is_complete:
        return f"it was {state}: 'xraycam resume {run_id}' does the rest"
    if found.is_complete or state != OPEN:
        return None
    broker = session.settings.broker
    if broker is None:
        if workers and not found.leased_chunks:
            # Those that wait for the next command do not work on this run.
            warm = warm_status(session.settings)
            if warm is not None and warm.run != run_id:
                workers -= len(warm.workers)
        return None if workers > 0 else f"stalled, no workers running: 'xraycam resume {run_id}' continues it"
    try:
        messages = queue_length(broker, EXPLAIN_QUEUE)
    except BrokerUnreachable as error:
        return f"{error}; the run continues by itself once it does"
    waiting = found.chunks - found.finished_chunks - found.leased_chunks
    # Each worker may be at one message, and have taken one more out of the queue.
    lost = messages == 0 and waiting > 2 * workers
    if not workers:
        then = f", then 'xraycam resume {run_id}', since no message waits in the broker" if lost else ""
        return f"no worker is alive: start 'xraycam worker'{then}"
    if lost:
        return (
            f"{counted(waiting, 'chunk')} to do, but no message in the broker: workers re-queue what is "
            f"missing within a minute, 'xraycam resume {run_id}' at once"
        )
    return None


RATE_SECONDS = 20.0
# The time left is told once the pace has been seen for so long.
_SEEN_SECONDS = 5.0


def inference_workers(live: Iterable[Worker]) -> int:
    """How many of these explain images, rather than train."""
    return sum(EXPLAIN_QUEUE in worker.queues for worker in live)


def describe_health(found: runs.Progress, workers: int, failures: dict[str, int]) -> str:
    """Who works, what failed and what was lost, in one line."""
    words = [counted(workers, "worker")]
    if failures:
        words.append("failed: " + ", ".join(f"{count} {reason}" for reason, count in failures.items()))
    if found.expired_leases:
        words.append(f"{counted(found.expired_leases, 'lease')} expired, chunks re-run")
    return "; ".join(words)


def step_of(found: runs.Progress, live: Sequence[Worker]) -> str:
    """What is done before a run's first result, in words; of the images from then on."""
    explaining = [worker for worker in live if EXPLAIN_QUEUE in worker.queues]
    if found.done + found.failed or any(worker.model_version for worker in explaining):
        return "explaining"
    if not explaining:
        return "waiting for a worker"
    if found.leased_chunks or any(worker.activity for worker in explaining):
        return "loading the model"
    return f"starting {counted(len(explaining), 'worker')}"


class _BarAndHealth(ProgressBar):
    health = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield Text(self.health, style="dim")


class ProgressDisplay:
    """A progress bar on standard error: what is done now, images done, failed, images/s, time left; below it
    who works, what failed for which reason and what was lost; above it the workers' faults. Without a
    terminal, a line for each step and one a minute."""

    def __init__(
        self,
        console: Console,
        ledger: Ledger,
        run: Run,
        stall_reason: Callable[[runs.Progress, int], str | None] | None = None,
        log_error: Callable[[], str] = str,
    ) -> None:
        """`stall_reason`: what to say of a run that does not move, by its progress and the live workers.
        `log_error`: the last error in the workers' logs."""
        self._log_error = log_error
        self._notice = StallNotice(console, f"run {run.id}")
        self._stall_reason = stall_reason
        self._ledger = ledger
        self._run = run
        self._console = console
        self._seen: deque[tuple[float, int]] = deque()
        self._before: int | None = None
        self._step = ""
        self._next_line = time.monotonic() + LINE_SECONDS
        self._faults: set[str] = set()
        self._next_faults = 0.0
        self._bar = _BarAndHealth(
            TextColumn("run {task.fields[run]}: {task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            # Without a terminal there is nothing to redraw: only the lines around the bar are printed.
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None, run=run.id, figures="")

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self) -> runs.Progress:
        """Look at the ledger and redraw."""
        found = self._ledger.query(runs.progress, self._run.id)
        ended = found.done + found.failed
        figures = ", ".join(self._figures(found))
        step = "explaining" if ended else step_of(found, live_workers(self._ledger))
        self._bar.update(
            self._task,
            description=step,
            # A bar at nothing says nothing: it moves until there is something to show.
            total=found.images if ended else None,
            completed=ended,
            figures=figures,
        )
        if not self._console.is_terminal:
            self._say(step, figures)
        if time.monotonic() >= self._next_faults:
            self._next_faults = time.monotonic() + 2.0
            self._show_health(found)
        self._notice.look(ended, lambda: self._why(found))
        return found

    def _why(self, found: runs.Progress) -> str:
        live = live_workers(self._ledger)
        reason = None if self._stall_reason is None else self._stall_reason(found, inference_workers(live))
        return why_not_moving(found, live, reason, self._log_error())

    def _say(self, step: str, figures: str) -> None:
        moment = time.monotonic()
        if step != self._step or moment >= self._next_line:
            is_new, self._step, self._next_line = step != self._step, step, moment + LINE_SECONDS
            line = step if is_new else figures
            self._console.print(f"run {self._run.id}: {line}", soft_wrap=True, markup=False)

    def _figures(self, found: runs.Progress) -> Iterator[str]:
        ended = found.done + found.failed
        yield f"{ended:,}/{found.images:,}"
        if found.failed:
            yield f"{found.failed:,} failed"
        seconds, images = self._pace(ended)
        if seconds > 0 and images:
            yield f"{images / seconds:.1f} images/s"
        if seconds >= _SEEN_SECONDS and images and ended < found.images:
            yield time_left(seconds / images * (found.images - ended))

    def _pace(self, ended: int) -> tuple[float, int]:
        """Seconds, and how many images ended in them, from the first result on: before that workers start."""
        moment = time.monotonic()
        if self._before is None:
            self._before = ended
        if ended == self._before:
            return 0.0, 0
        self._seen.append((moment, ended))
        while moment - self._seen[0][0] > RATE_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        return moment - self._seen[0][0], ended - self._seen[0][1]

    def _show_health(self, found: runs.Progress) -> None:
        live = live_workers(self._ledger)
        failures = self._ledger.query(runs.failures_by_reason, self._run.id) if found.failed else {}
        explaining = inference_workers(live)
        lines = [describe_health(found, explaining, failures)]
        if self._stall_reason is not None:
            lines.append(self._stall_reason(found, explaining) or "")
        self._bar.health = "\n".join(filter(None, lines))
        for worker in live:
            if worker.last_error and worker.last_error not in self._faults:
                self._faults.add(worker.last_error)
                self._console.print(f"worker {worker.name}: {worker.last_error}", style="red", markup=False)


def wait_for_run(
    display: ProgressDisplay, ledger: Ledger, run: Run, tick: Callable[[], None]
) -> runs.Progress:
    """Wait until every image of a run has a result, or it is cancelled or stopped; `tick` is called."""

    started = time.monotonic()
    while True:
        found = display.update()
        state = ledger.query(get_run, run.id).state
        if state in HALTED or (found.is_complete and state != SCANNING):
            return found
        raise_if_interrupted()
        tick()
        # A short run ends soon, and is looked at more often.
        time.sleep(0.1 if time.monotonic() - started < 10 else 0.3)
