"""How many images a device is best given at once, measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIZES = (16, 32, 64, 128, 256, 512)
# On a CPU larger ones gain nothing, and a process that takes too much memory is killed rather than told.
LARGEST_ON_CPU = 64
LONGEST_SECONDS = 20.0
GAIN = 1.05  # in images a second, for which twice the memory is spent
_ROUNDS = 3
_OUT_OF_MEMORY = ("ResourceExhaustedError", "MemoryError")


def best_batch_size(
    explain: Callable[[Any], Any],
    side: int,
    largest: int = SIZES[-1],
    *,
    seconds: float = LONGEST_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """The size in SIZES, up to `largest`, from which on `explain` hardly gains in images a second.

    Each is tried once to compile and three times measured, of which the quickest counts. It ends where the
    device's memory does, or where the next size would take longer than the `seconds` that are left.
    """
    end = clock() + seconds
    best, rate = SIZES[0], 0.0
    for size in SIZES:
        if size > max(largest, SIZES[0]):
            break
        begun = clock()
        try:
            quickest = _quickest(explain, np.zeros((size, side, side), np.uint8), clock)
        except Exception as error:
            if type(error).__name__ not in _OUT_OF_MEMORY or size == SIZES[0]:
                raise
            break
        found = size / max(quickest, 1e-9)
        if found < GAIN * rate:
            break
        best, rate = size, found
        if clock() + 2 * (clock() - begun) > end:
            break
    return best


def _quickest(explain: Callable[[Any], Any], batch: Any, clock: Callable[[], float]) -> float:
    explain(batch)
    quickest = float("inf")
    for _ in range(_ROUNDS):
        started = clock()
        explain(batch)
        quickest = min(quickest, clock() - started)
    return quickest
