"""Sentences for a terminal of any width."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def print_wrapped(console: Console, text: str) -> None:
    """Print lines of text as they are; in a terminal they go on in the next line between words.

    A line with a word wider than the terminal, such as a path, is left to the terminal: what is copied from
    there has no line break in it.
    """
    for line in text.split("\n"):
        is_wrapped = console.is_terminal and all(len(word) <= console.width for word in line.split())
        console.print(line, soft_wrap=not is_wrapped, markup=False)
