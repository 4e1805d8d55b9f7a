"""A line a minute for work that does not move, saying why."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console

from db.runs import Progress
from db.workers import Worker
from worker.counted_words import counted
from worker.queue.messages import EXPLAIN_QUEUE

STALL_SECONDS = 60.0


class StallNotice:
    """Prints `explain()` whenever what it is told has not changed for another `every` seconds."""

    def __init__(self, console: Console, what: str, every: float | None = None) -> None:
        """`what`: what does not move, such as `run 3`."""
        self._console = console
        self._what = what
        self._every = STALL_SECONDS if every is None else every
        self._state: Any = None
        self._since = self._said = time.monotonic()

    def look(self, state: Any, explain: Callable[[], str]) -> None:
        """Compare `state` with that of the last time; `explain` is asked only when there is a line due."""
        moment = time.monotonic()
        if state != self._state:
            self._state, self._since, self._said = state, moment, moment
        elif moment - self._said >= self._every:
            self._said = moment
            self._console.print(
                f"{self._what}: no progress for {_duration(moment - self._since)}: {explain()}",
                soft_wrap=True,
                markup=False,
            )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


def why_not_moving(found: Progress, live: Sequence[Worker], reason: str | None, log_error: str = "") -> str:
    """Why a run does not move, in one line: `reason` where one is known, else from what its live workers do;
    with their last errors, and that of their logs."""
    explaining = [worker for worker in live if EXPLAIN_QUEUE in worker.queues]
    errors = list(dict.fromkeys(filter(None, [*(worker.last_error for worker in explaining), log_error])))
    return "; ".join([reason or _state_of(found, explaining), *(f"last error: {one}" for one in errors)])


def _state_of(found: Progress, explaining: Sequence[Worker]) -> str:
    if not explaining:
        return "no worker is alive"
    busy = [f"{worker.name} works on {worker.activity}" for worker in explaining if worker.activity]
    if busy:
        more = f" and {counted(len(busy) - 3, 'other')}" if len(busy) > 3 else ""
        return ", ".join(busy[:3]) + more
    loading = [worker for worker in explaining if worker.model_version is None]
    if len(loading) == len(explaining):
        return f"the model is being loaded by {counted(len(loading), 'worker')}"
    waiting = found.chunks - found.finished_chunks - found.leased_chunks
    return f"{counted(len(explaining), 'worker')} idle, {counted(waiting, 'chunk')} waiting"
