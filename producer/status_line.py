"""What is done now, for whoever waits: a line that changes in a terminal, elsewhere a line a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LINE_SECONDS = 60.0


@contextmanager
def doing(console: Console | None, text: str) -> Iterator[Callable[[str], None]]:
    """Show `text` for the time of the block, and what is told meanwhile in its place. None: show nothing."""
    if console is None:
        yield lambda _: None
        return
    said = time.monotonic()
    with console.status(text) as status:

        def tell(what: str) -> None:
            nonlocal said
            status.update(what)
            if not console.is_terminal and time.monotonic() - said >= LINE_SECONDS:
                said = time.monotonic()
                console.print(what, soft_wrap=True, markup=False)

        yield tell


def time_left(seconds: float) -> str:
    """In words, no more exact than an estimate is."""
    return f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    """In words, to whole seconds or minutes, or to a tenth of an hour."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
