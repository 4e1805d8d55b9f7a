"""How many pixels are worked on at once is bounded, whatever the number of threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from worker.images.limits import PIXELS_A_PROCESSOR, PixelBudget


def most_at_once(budget: PixelBudget, sizes: list[int]) -> tuple[int, int]:
    """The most pixels, and the most images, that were in the block at one time."""
    lock, now, most = threading.Lock(), [0, 0], [0, 0]

    def work(pixels: int) -> None:
        with budget.taking(pixels):
            with lock:
                now[0] += pixels
                now[1] += 1
                most[:] = max(most[0], now[0]), max(most[1], now[1])
            time.sleep(0.002)
            with budget.taking(pixels):  # decoded again to be drawn: it is taken once
                pass
            with lock:
                now[0] -= pixels
                now[1] -= 1

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(work, sizes))
    return most[0], most[1]


def test_threads_have_no_more_pixels_at_work_than_there_are() -> None:
    pixels, images = most_at_once(PixelBudget(100), [10, 25, 30, 5] * 40)
    assert pixels <= 100
    assert images >= 4


def test_an_image_of_more_than_all_is_alone() -> None:
    assert most_at_once(PixelBudget(100), [250] * 8) == (250, 1)


def test_a_large_image_gets_its_turn_among_many_small_ones() -> None:
    budget = PixelBudget(100)
    ended, done = threading.Event(), threading.Event()

    def small() -> None:
        while not ended.is_set():
            with budget.taking(20):
                time.sleep(0.001)

    others = [threading.Thread(target=small) for _ in range(8)]
    for thread in others:
        thread.start()

    def large() -> None:
        with budget.taking(100):
            done.set()

    threading.Thread(target=large, daemon=True).start()
    found = done.wait(30)
    ended.set()
    for thread in others:
        thread.join()
    assert found


def test_what_there_is_follows_the_processors() -> None:
    budget = PixelBudget(1)
    budget.resize(16)
    assert budget.pixels == 16 * PIXELS_A_PROCESSOR
    with budget.taking(10 * PIXELS_A_PROCESSOR):
        budget.resize(1)
    assert most_at_once(budget, [budget.pixels] * 3) == (PIXELS_A_PROCESSOR, 1)
