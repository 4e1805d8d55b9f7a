"""What one image file may cost, and how many are decoded and drawn at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from worker.processors import usable_processors

# A decoded image of more pixels is not held until it is drawn.
LARGE_PIXELS = 8_000_000


@dataclass(frozen=True)
class Limits:
    """What one file may cost. Sides and areas in pixels."""

    max_pixels: int = 100_000_000
    max_bytes: int = 200_000_000
    min_side: int = 16


class PixelBudget:
    """How many pixels are decoded and drawn at once in this process: they take 10 to 20 bytes each meanwhile.

    Threads take of it what their image has; one that has more than there is waits for all of it, and is
    alone. Who waits is served before those who come later, so that a large image is not put off for ever.
    """

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._free = pixels
        self._changed = threading.Condition()
        self._turn = threading.Lock()
        self._mine = threading.local()
        self._among_all: Callable[[], AbstractContextManager[None]] = nullcontext

    @contextmanager
    def taking(self, pixels: int) -> Iterator[None]:
        """Wait until so many pixels may be worked on. Within the block a thread takes no more: what is drawn
        may have to be decoded again."""
        if getattr(self._mine, "is_inside", False):
            yield
            return
        with self._turn, self._changed:
            taken = min(pixels, self.pixels)
            self._changed.wait_for(lambda: self._free >= taken)
            self._free -= taken
        self._mine.is_inside = True
        try:
            with self._among_all() if pixels > self.pixels else nullcontext():
                yield
        finally:
            self._mine.is_inside = False
            with self._changed:
                self._free += taken
                self._changed.notify_all()

    def share(self, among_all: Callable[[], AbstractContextManager[None]]) -> None:
        """Within this, too, is worked on what is larger than all: one process of several may be in it."""
        self._among_all = among_all

    def resize(self, processors: int) -> None:
        """Have as many as go with so many processors."""
        with self._changed:
            pixels = PIXELS_A_PROCESSOR * processors
            self._free += pixels - self.pixels
            self.pixels = pixels
            self._changed.notify_all()


# A thread decodes and one draws for each processor: images of up to 8 megapixels do not wait.
PIXELS_A_PROCESSOR = 16_000_000
pixel_budget = PixelBudget(PIXELS_A_PROCESSOR * max(2, usable_processors()))
