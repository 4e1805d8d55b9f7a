"""The batch size that suits a device, found on devices whose times are written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from worker.explain.batch_size import best_batch_size


class Device:
    """Takes `seconds(size)` for a batch, by a clock of its own; has memory for `most` images."""

    def __init__(self, seconds: Callable[[int], float], most: int = 10**9, error: type = MemoryError) -> None:
        self.now, self.seconds, self.most, self.error = 0.0, seconds, most, error
        self.seen: list[int] = []

    def explain(self, batch: Any) -> None:
        assert batch.shape == (len(batch), 32, 32)
        if len(batch) > self.most:
            raise self.error("no room")
        self.seen.append(len(batch))
        self.now += self.seconds(len(batch))

    def best(self, **options: Any) -> int:
        return best_batch_size(self.explain, 32, clock=lambda: self.now, **options)


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's."""


def test_sizes_grow_while_they_gain_five_percent() -> None:
    # 10 ms a batch and 0.1 ms an image: 1379, 2424, 3902, 5614, 7191, 8366 images/s.
    assert Device(lambda size: 0.01 + 0.0001 * size).best() == 512
    # 1 ms a batch and 1 ms an image: 941, 970 images/s.
    device = Device(lambda size: 0.001 + 0.001 * size)
    assert device.best() == 16
    assert device.seen == [16] * 4 + [32] * 4
    # Full at 64 images: more take as much longer.
    assert Device(lambda size: 0.02 * max(1.0, size / 64)).best() == 64


def test_no_size_is_larger_than_told() -> None:
    assert Device(lambda _: 0.01).best(largest=128) == 128
    assert Device(lambda _: 0.01).best(largest=100) == 64
    assert Device(lambda _: 0.01).best(largest=5) == 16


@pytest.mark.parametrize("error", [MemoryError, ResourceExhaustedError])
def test_memory_bounds_the_size(error: type) -> None:
    assert Device(lambda _: 0.01, most=100, error=error).best() == 64


def test_other_errors_and_too_little_memory_for_the_smallest_are_not_hidden() -> None:
    with pytest.raises(ValueError, match="no room"):
        Device(lambda _: 0.01, most=100, error=ValueError).best()
    with pytest.raises(MemoryError):
        Device(lambda _: 0.01, most=10).best()


def test_time_bounds_the_measurement() -> None:
    device = Device(lambda size: 0.5 + 0.01 * size)
    assert device.best(seconds=10.0) == 32
    assert device.now <= 10.0


def test_one_slow_round_does_not_decide() -> None:
    rounds = iter([0.01, 0.01, 0.01, 0.01, 0.01, 0.5, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01])
    assert Device(lambda _: next(rounds, 1.0)).best(largest=64) == 64
