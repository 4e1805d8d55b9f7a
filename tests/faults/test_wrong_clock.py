"""The clock of one machine is an hour off; leases go by the database's.

On Postgres alone: a SQLite ledger is on one machine, which has one clock.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.fault_runs import (
    NoteFault,
    assert_each_once,
    draw_xrays_of,
    enqueue,
    lose_machine,
    on_postgres,
)
from tests.support.installation import Installation, unavailable


def faketime() -> Path:
    """The library that shows programs another time, from the Debian package `faketime`."""
    for found in Path("/usr/lib").glob("*/faketime/libfaketime.so.1"):
        return found
    unavailable("no libfaketime: install the package faketime")
    raise AssertionError


@on_postgres
@pytest.mark.parametrize("hours", [1, -1])
def test_clock_of_one_machine_an_hour_off(
    distributed: Installation, note_fault: NoteFault, hours: int
) -> None:
    xrays = draw_xrays_of(distributed)
    # Slow enough that the run is still under way when the second worker has started.
    distributed.sabotage(explainer=0.05)
    library = faketime()
    right = dict(distributed.environment)
    distributed.environment |= {
        "LD_PRELOAD": str(library), "FAKETIME": f"{hours:+}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "XRAYCAM_KEEP_ENV": f"{right['XRAYCAM_KEEP_ENV']}, FAKETIME*",
    }  # fmt: skip
    wrong = distributed.start("worker")
    distributed.environment = right
    distributed.start("worker")
    enqueue(distributed, xrays)

    # The one whose clock is right must neither take over early nor wait for an hour.
    seconds = lose_machine(distributed, wrong.pid)

    distributed.wait_complete()
    assert_each_once(distributed)
    note_fault(
        f"clock of one machine an hour {'ahead' if hours > 0 else 'behind'}, and that machine gone",
        "leases go by the database's clock",
        seconds,
    )
