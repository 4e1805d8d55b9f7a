"""The table of faults: what each does, and how long recovery takes, as measured by the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fault_runs import NoteFault, draw_xrays_of
from tests.support.installation import Installation

HEADING = """# What happens when something breaks

Measured by `pytest tests/faults -n 0 --faults-table docs/faults.md`: real servers, real worker processes
that are really killed, at least 300 images a test, and at the end a count: one row and one overlay per
image, whatever broke. Leases last 5 s in these tests (`XRAYCAM_LEASE_TIMEOUT`, 60 s by default, of which
a machine that vanishes costs about one). Seconds are of one run on two cores; they say of which kind a wait
is, not more.

| fault | what happens | recovered after |
|---|---|---|
"""

# What is held elsewhere.
FOOTING = Path(__file__).with_name("remote_faults.md").read_text(encoding="utf-8")

_noted: dict[str, tuple[str, str]] = {}


@pytest.fixture
def xrays(distributed: Installation) -> Path:
    return draw_xrays_of(distributed)


@pytest.fixture
def note_fault(request: pytest.FixtureRequest) -> Iterator[NoteFault]:
    """`note_fault(fault, happens, seconds)` adds a row, if the test passes; `seconds`: None for at once."""
    rows: list[tuple[str, str, str]] = []

    def note(fault: str, happens: str, seconds: float | None, since: str = "") -> None:
        recovered = "nothing to recover" if seconds is None else f"{seconds:.1f} s{since and ' ' + since}"
        rows.append((fault, happens, recovered))

    yield note
    report = getattr(request.node, "call_report", None)
    if report is not None and report.passed:
        _noted.update({fault: (happens, recovered) for fault, happens, recovered in rows})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.when == "call":
        item.call_report = report
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if not _noted:
        return
    lines = [f"| {fault} | {happens} | {recovered} |" for fault, (happens, recovered) in _noted.items()]
    file = config.getoption("--faults-table", None)
    if file is not None:
        file.write_text(HEADING + "\n".join(lines) + "\n\n" + FOOTING, encoding="utf-8")
    terminalreporter.section("faults and recovery")
    terminalreporter.write_line("\n".join(lines))
