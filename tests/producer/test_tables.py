"""Tables fit: whole words at any width, the least important columns left out first, plain text in pipes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from producer.tables import Column, Table


def printed(table: Table, width: int, *, terminal: bool = True) -> str:
    stream = io.StringIO()
    table.print(Console(file=stream, width=width, force_terminal=terminal, color_system=None))
    return stream.getvalue()


@pytest.fixture
def table() -> Table:
    made = Table(
        [
            Column("image", breaks=True),
            Column("class"),
            Column("score", 1, right=True),
            Column("layer and method", 2),
        ],
        title="run 1: /archive",
    )
    made.add_row("ward/a.png", "Tuberculosis", "97.3", "block_12_add gradcam")
    made.add_row("ward/[b]/a-very-long-name-without-a-space.png", "Normal", "2.1", "block_12_add gradcam")
    return made


WORDS = ("ward/a.png", "Tuberculosis", "Normal", "image", "class")


@pytest.mark.parametrize("width", [24, 30, 40, 56, 80, 120, 200])
def test_no_word_is_cut_and_no_line_too_long(table: Table, width: int) -> None:
    text = printed(table, width)
    assert all(len(line) <= width for line in text.splitlines())
    for word in WORDS:
        assert word in text
    assert "".join(text.split()).count("…") == 0


def test_the_least_important_column_goes_first_and_is_named(table: Table) -> None:
    wide, middle, narrow = (printed(table, width) for width in (120, 60, 46))
    assert "layer and method" in wide
    assert "a wider terminal" not in wide
    assert middle.endswith("a wider terminal shows more: layer and method\n")
    assert "97.3" in middle
    assert "97.3" not in narrow
    assert " ".join(narrow.split()).endswith("a wider terminal shows more: score, layer and method")


def test_where_nothing_fits_each_row_is_lines_of_name_and_value(table: Table) -> None:
    assert printed(table, 30).startswith(
        "run 1: /archive\nimage: ward/a.png\nclass: Tuberculosis\nscore: 97.3\n"
        "layer and method: block_12_add\ngradcam\n\nimage: \n"
    )


def test_what_is_no_terminal_gets_aligned_columns_on_one_line_each(table: Table) -> None:
    assert printed(table, 40, terminal=False) == (
        "run 1: /archive\n"
        "image                                          class         score  layer and method\n"
        "ward/a.png                                     Tuberculosis   97.3  block_12_add gradcam\n"
        "ward/[b]/a-very-long-name-without-a-space.png  Normal          2.1  block_12_add gradcam\n"
    )


def test_a_line_is_drawn_before_a_section(table: Table) -> None:
    table.add_section()
    table.add_row("baseline", "", "0.0", "")
    lines = printed(table, 120).splitlines()
    assert lines[-3].startswith("├")
