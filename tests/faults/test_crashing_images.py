"""An image that crashes its worker fails after three attempts; the other images of its chunk are done."""

from __future__ import annotations

import time

import pytest
from PIL import Image
from sqlalchemy import select

from db.schema import images, results
from tests.support.fault_runs import IMAGES, NoteFault, children, draw_xrays_of, enqueue
from tests.support.installation import Installation
from tests.support.servers import wait_until


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("crash", "happens"),
    [
        ("kill", "its worker dies three times, then it is `failed: crashed-worker`; all others are done"),
        ("hang", "a watchdog ends the worker (here after 4 s), three times; all others are done"),
    ],
)
def test_crashing_image_fails_after_three_attempts_and_its_neighbours_are_done(
    distributed: Installation, note_fault: NoteFault, crash: str, happens: str, processes: int
) -> None:
    xrays = draw_xrays_of(distributed, chunk_size=32, image_timeout=4, processes=processes)
    distributed.sabotage(crash=crash)
    Image.linear_gradient("L").resize((77, 77)).save(xrays / "image-0150-crashing.png")
    distributed.start("worker")
    start = time.monotonic()
    enqueue(distributed, xrays)

    distributed.wait_complete(seconds=200)

    seconds = time.monotonic() - start
    assert distributed.counts() == {"images": IMAGES + 1, "done": IMAGES, "failed": 1}
    with distributed.ledger.read() as connection:
        failed = connection.execute(
            select(images.c.path, images.c.attempts, results.c.reason)
            .join(results, results.c.image_id == images.c.id)
            .where(results.c.status == "failed")
        ).all()
    assert failed == [("image-0150-crashing.png", 3, "crashed-worker")]
    wait_until(lambda: len(children(distributed)) == 1, 30, "a healthy worker")
    (xrays / "image-0150-crashing.png").unlink()
    Image.linear_gradient("L").resize((32, 32)).save(xrays / "later.png")
    distributed.xraycam("enqueue", xrays)
    wait_until(lambda: distributed.counts()["done"] == IMAGES + 1, 60, "the worker works on")
    if processes == 1:
        note_fault(f"image that {crash}s its decoder", happens, seconds, "for the whole run")
