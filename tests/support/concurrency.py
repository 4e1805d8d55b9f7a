"""Real processes that do one thing at the same moment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from typing import Any

PROCESSES = 6

_barrier: Any = None


def at_once(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What `function` returns for each of `calls` (6 at most), each in a process of its own, together."""
    idle = [(_nothing, ())] * (PROCESSES - len(calls))
    futures = [_pool().submit(_together, *call) for call in [*((function, call) for call in calls), *idle]]
    return [future.result(120) for future in futures][: len(calls)]


@lru_cache(maxsize=1)
def _pool() -> ProcessPoolExecutor:
    # Kept for all tests: starting the processes takes longer than what they do.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(PROCESSES, context, _keep, (context.Barrier(PROCESSES),))


def _keep(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _together(function: Callable[..., Any], call: tuple[Any, ...]) -> Any:
    _barrier.wait(60)
    return function(*call)


def _nothing() -> None:
    pass
