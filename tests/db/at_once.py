"""Real processes that do one thing at the same moment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

_barrier: Any = None


def at_once(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Any]:
    """What `function` returns for each of `calls`, each made in a process of its own, together."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(calls))
    with ProcessPoolExecutor(len(calls), context, _keep, (barrier,)) as pool:
        return [future.result(120) for future in [pool.submit(_together, function, call) for call in calls]]


def _keep(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _together(function: Callable[..., Any], call: tuple[Any, ...]) -> Any:
    _barrier.wait(60)
    return function(*call)
