"""Ctrl-C and SIGTERM that are not lost.

Python raises KeyboardInterrupt wherever it happens to be, and drops it in a finalizer or a callback from C: a
client of redis-py has one, and a loop that asks the broker makes a client every time. So it is noted, too,
and whoever waits asks in each round.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked = threading.Event()


def note_interrupts() -> None:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt in this process, each time, and be noted.

    Not SIGINT where it is ignored, as by a shell for its background jobs.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)


def _note(number: int, frame: FrameType | None) -> None:
    _asked.set()
    raise KeyboardInterrupt


def raise_if_interrupted() -> None:
    """Raises KeyboardInterrupt where a signal came, also one whose KeyboardInterrupt was lost."""
    if _asked.is_set():
        raise KeyboardInterrupt


@contextmanager
def interrupt_once() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM or a closed terminal stop the block, once: a second must not break the end."""

    def stop(number: int, frame: FrameType | None) -> None:
        if not _asked.is_set():
            _note(number, frame)

    numbers = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)  # the terminal was closed; `nohup` asks that it be ignored
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()
