"""Waiting until a run is complete, and mending what stops it meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

from db import runs
from db.errors import LedgerUnreachable
from db.ledger import Ledger
from db.runs import CANCELLED, SCANNING, Run, get_run
from producer.fleet import Fleet
from producer.progress import ProgressDisplay
from producer.publish import publish_chunks


def wait_for_run(
    display: ProgressDisplay, ledger: Ledger, run: Run, tick: Callable[[], None]
) -> runs.Progress:
    """Wait until every image of a run has a result, or it is cancelled; `tick` is called meanwhile."""

    def look() -> tuple[runs.Progress, str]:
        return display.update(), get_run(ledger, run.id).state

    while True:
        try:
            found, state = look()
        except LedgerUnreachable:
            # It went away in the middle of an answer: connecting again waits for it.
            found, state = look()
        if state == CANCELLED or (found.is_complete and state != SCANNING):
            return found
        tick()
        time.sleep(0.3)


class LocalOverseer:
    """Keeps a fleet going, and sends a run's messages again when its private broker had to be restarted."""

    def __init__(self, fleet: Fleet, ledger: Ledger, run: Run) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._run = run

    def tick(self) -> None:
        if self._fleet.tick():
            self.publish()

    def publish(self, on_wait: Callable[[], object] | None = None) -> int:
        """Send the run's unfinished chunks."""
        total = runs.progress(self._ledger, self._run.id).chunks

        def wait() -> None:
            self._fleet.tick()
            if on_wait is not None:
                on_wait()

        return publish_chunks(self._fleet.settings, self._ledger, self._run, total, wait)
