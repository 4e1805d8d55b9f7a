"""The page of figures is written part by part; what was not measured again stays as it was."""

from __future__ import annotations

import importlib.util
import sys

from benchmarks.__main__ import BENCHMARKS, dated, run, with_section

PAGE = "# Figures seen\n\nBy hand, 2026-11-24.\n"


def test_a_part_is_added_replaced_and_dated_and_others_stay() -> None:
    first = with_section(PAGE, "throughput", "### throughput\n\n2026-11-25, 0.9\n")
    both = with_section(first, "commands", "### commands\n\n2026-11-26, 2.4\n")
    again = with_section(both, "throughput", "### throughput\n\n2026-12-01, 0.95\n")
    assert [dated(page, "throughput") for page in (PAGE, first, both, again)] == [
        "", "2026-11-25", "2026-11-25", "2026-12-01",
    ]  # fmt: skip
    assert dated(again, "commands") == "2026-11-26"
    assert "0.95" in again
    assert "0.9\n" not in again
    assert again.index("### throughput") < again.index("### commands") < again.index("By hand, 2026-11-24.")
    assert again.count("# Figures seen") == 1


def test_most_benchmarks_that_are_named_are_there() -> None:
    missing = {name for name in BENCHMARKS if importlib.util.find_spec(f"benchmarks.{name}") is None}
    assert missing <= {"full_size"}


def test_the_head_of_a_table_keeps_its_place() -> None:
    output, status, _ = run(
        [sys.executable, "-c", "print(); print('      images/s'); print('one        1.0')"]
    )
    assert (output, status) == ("      images/s\none        1.0", 0)
