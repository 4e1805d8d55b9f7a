"""Tables that fit: where a terminal is narrow the least important columns are left out; no word is cut."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from producer.wrapped_text import print_wrapped
from worker.file_names import printable

# Longer names within a path are broken before columns are left out for them; in less than the other, no path
# is read.
_LONGEST_NAME, _SHORTEST_NAME = 32, 20
_BORDERS = 3  # of a column: two spaces and a line


@dataclass(frozen=True)
class Column:
    """`importance`: 0 is always shown; of others the highest number is left out first. `breaks`: text
    that may go on in the next line after each `/`, and, where a name in it is long, at any place.
    `least`: in a narrower column its sentences are not read with ease."""

    name: str
    importance: int = 0
    right: bool = False
    breaks: bool = False
    least: int = 0


@dataclass
class Table:
    """Rows of text below `columns`; `sections` are the rows before which a line is drawn."""

    columns: Sequence[Column]
    title: str = ""
    rows: list[list[str]] = field(default_factory=list)
    sections: set[int] = field(default_factory=set)

    def add_row(self, *cells: str) -> None:
        self.rows.append([printable(cell) for cell in cells])

    def add_section(self) -> None:
        self.sections.add(len(self.rows))

    def print(self, console: Console) -> None:
        """Print to fit: aligned columns without lines where the console is no terminal, whatever their width;
        else in a box, or, where even the important columns do not fit, each row as lines of name and value.
        """
        if self.title:
            print_wrapped(console, self.title)
        if not console.is_terminal:
            self._print_plain(console)
            return
        shown = [index for index in range(len(self.columns)) if self._is_worth_showing(index)]
        left_out: list[int] = []
        longest = _LONGEST_NAME
        while self._narrowest(shown, longest) > console.width:
            if optional := [index for index in shown if self.columns[index].importance]:
                left_out.append(max(optional, key=lambda index: (self.columns[index].importance, index)))
                shown.remove(left_out[-1])
            elif longest == _LONGEST_NAME:
                longest = _SHORTEST_NAME
            else:
                self._print_records(console)
                return
        self._print_box(console, shown, longest)
        if left_out:
            names = ", ".join(self.columns[index].name for index in sorted(left_out))
            print_wrapped(console, f"a wider terminal shows more: {names}")

    def _is_worth_showing(self, index: int) -> bool:
        """False for a column of lesser importance that is empty in every row."""
        return not self.columns[index].importance or any(row[index] for row in self.rows) or not self.rows

    def _cells(self, index: int) -> list[str]:
        return [self.columns[index].name, *(row[index] for row in self.rows)]

    def _least_width(self, index: int, longest: int) -> int:
        """In which no word is cut; of a column that breaks, none up to `longest`."""
        column = self.columns[index]
        split = _parts if column.breaks else str.split
        parts = (part for cell in self._cells(index) for part in split(cell))
        least = max((cell_len(part.rstrip()) for part in parts), default=0)
        if column.breaks:
            least = max(min(least, longest), *map(cell_len, column.name.split()))
        return max(least, min(column.least, self._wish(index)))

    def _wish(self, index: int) -> int:
        """In which each cell is one line."""
        return max(cell_len(line) for cell in self._cells(index) for line in cell.split("\n"))

    def _narrowest(self, shown: Sequence[int], longest: int) -> int:
        return sum(self._least_width(index, longest) + _BORDERS for index in shown) + 1

    def _widths(self, shown: Sequence[int], longest: int, room: int) -> dict[int, int]:
        """What each column gets: the least in which no word is cut, and of what is left, what it has use for,
        shared evenly among those that have."""
        widths = {index: self._least_width(index, longest) for index in shown}
        wished = {index: self._wish(index) for index in shown}
        left = room - self._narrowest(shown, longest)
        by_wish = sorted(shown, key=lambda index: wished[index] - widths[index])
        for number, index in enumerate(by_wish):
            more = min(wished[index] - widths[index], left // (len(by_wish) - number))
            widths[index] += more
            left -= more
        return widths

    def _print_box(self, console: Console, shown: Sequence[int], longest: int) -> None:
        widths = self._widths(shown, longest, console.width)
        # The widths are set here: rich, left to share out what is missing, cuts words and the border.
        table = RichTable()
        for index, width in widths.items():
            column = self.columns[index]
            table.add_column(
                Text(column.name),
                justify="right" if column.right else "left",
                overflow="fold",
                width=width,
            )
        for number, row in enumerate(self.rows):
            if number in self.sections:
                table.add_section()
            table.add_row(
                *(
                    Text(_broken(row[index], widths[index]) if self.columns[index].breaks else row[index])
                    for index in shown
                )
            )
        console.print(table)

    def _print_records(self, console: Console) -> None:
        for row in self.rows:
            for column, cell in zip(self.columns, row, strict=True):
                if cell:
                    console.print(Text(f"{column.name}: {cell}" if column.name else cell))
            console.print()

    def _print_plain(self, console: Console) -> None:
        widths = [max(map(cell_len, self._cells(index))) for index in range(len(self.columns))]
        for cells in ([column.name for column in self.columns], *self.rows):
            spaces = [" " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True)]
            parts = [
                space + cell if column.right else cell + space
                for column, cell, space in zip(self.columns, cells, spaces, strict=True)
            ]
            console.print(Text("  ".join(parts).rstrip()), soft_wrap=True)


def _parts(text: str) -> Iterator[str]:
    """What stays together in a text with paths: names with the `/` and the spaces after them."""
    return (match[0] for match in re.finditer(r"[^\s/]*/?\s*", text) if match[0])


def _broken(text: str, width: int) -> str:
    """The text in lines of at most `width`, broken between parts."""
    lines = [""]
    for part in _parts(text):
        if lines[-1] and cell_len((lines[-1] + part).rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)
