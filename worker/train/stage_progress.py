"""How far a stage of a training is that is no epoch, for those who watch it."""

from __future__ import annotations

import time

from db.ledger import Ledger
from db.trainings import Training, set_stage
from db.workers import update_worker
from worker.counted_words import counted

# Time left is told once so much of the stage has been seen; the ledger is written to once in so many seconds.
_SEEN_SECONDS, _EVERY_SECONDS = 3.0, 1.0


class StageProgress:
    """Writes the activity of `owner`, "training 3: ranking maps, 5 of 12 images", and the time left."""

    def __init__(
        self, ledger: Ledger, training: Training, owner: str, stage: str, noun: str = "image"
    ) -> None:
        self._ledger, self._training, self._owner, self._stage = ledger, training, owner, stage
        self._noun = noun
        self._first: tuple[float, int] | None = None
        self._said = -_EVERY_SECONDS

    def __call__(self, done: int, of: int) -> None:
        moment = time.monotonic()
        # What comes before the first call, a compilation say, tells nothing of the pace.
        self._first = self._first or (moment, done)
        if moment - self._said < _EVERY_SECONDS and done < of:
            return
        self._said = moment
        activity = f"training {self._training.id}: {self._stage}, {done} of {counted(of, self._noun)}"
        self._ledger.write(update_worker, self._owner, activity=activity)
        self._ledger.write(set_stage, self._training, self._stage, self._left(moment, done, of))

    def _left(self, moment: float, done: int, of: int) -> float | None:
        assert self._first is not None  # the caller set it
        seconds, steps = moment - self._first[0], done - self._first[1]
        return seconds / steps * (of - done) if seconds >= _SEEN_SECONDS and steps else None
