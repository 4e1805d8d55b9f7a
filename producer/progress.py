"""Showing how far a run is, from the ledger alone."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from db import runs
from db.ledger import Ledger
from db.runs import Run
from db.workers import list_workers

RATE_SECONDS = 20.0


class ProgressDisplay:
    """A progress bar on standard error: images done, failed, images/s, time left; faults below it."""

    def __init__(self, console: Console, ledger: Ledger, run: Run) -> None:
        self._ledger = ledger
        self._run = run
        self._console = console
        self._seen: deque[tuple[float, int]] = deque()
        self._faults: set[str] = set()
        self._next_faults = 0.0
        self._bar = Progress(
            TextColumn("run {task.fields[run]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed"),
            TextColumn("{task.fields[rate]} images/s"),
            TimeRemainingColumn(),
            console=console,
            # Without a terminal there is nothing to redraw: only the lines around the bar are printed.
            disable=not console.is_terminal,
            speed_estimate_period=RATE_SECONDS,
        )
        self._task = self._bar.add_task("", total=None, run=run.id, failed=0, rate="-")

    def __enter__(self) -> ProgressDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self) -> runs.Progress:
        """Look at the ledger and redraw."""
        found = runs.progress(self._ledger, self._run.id)
        ended = found.done + found.failed
        self._bar.update(
            self._task, total=found.images, completed=ended, failed=found.failed, rate=self._rate(ended)
        )
        if time.monotonic() >= self._next_faults:
            self._next_faults = time.monotonic() + 2.0
            self._show_faults()
        return found

    def _rate(self, ended: int) -> str:
        moment = time.monotonic()
        self._seen.append((moment, ended))
        while moment - self._seen[0][0] > RATE_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        seconds = moment - self._seen[0][0]
        images = ended - self._seen[0][1]
        return f"{images / seconds:.1f}" if seconds > 0 and images else "-"

    def _show_faults(self) -> None:
        for worker in list_workers(self._ledger):
            if worker.is_live and worker.fault and worker.fault not in self._faults:
                self._faults.add(worker.fault)
                self._console.print(f"[red]worker {worker.name}:[/] {worker.fault}", highlight=False)
