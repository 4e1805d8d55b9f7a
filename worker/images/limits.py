"""What one image file may cost."""

from __future__ import annotations

import threading
from dataclasses import dataclass

# A decoded image of more pixels may take a gigabyte, so that such are decoded and drawn one at a time.
LARGE_PIXELS = 8_000_000
one_large_at_a_time = threading.RLock()


@dataclass(frozen=True)
class Limits:
    """What one file may cost. Sides and areas in pixels."""

    max_pixels: int = 100_000_000
    max_bytes: int = 200_000_000
    min_side: int = 16
