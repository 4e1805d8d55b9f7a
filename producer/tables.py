"""Tables that fit: where a terminal is narrow the least important columns are left out; no word is cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

# A path has no spaces to break at; in a column narrower than this it is not read.
_SHORTEST_PATH = 20
_BORDERS = 3  # of a column: two spaces and a line


@dataclass(frozen=True)
class Column:
    """`importance`: 0 is always shown; of others the highest number is left out first. `breaks`: long text
    without spaces, such as a path, that may go on in the next line at any place."""

    name: str
    importance: int = 0
    right: bool = False
    breaks: bool = False


@dataclass
class Table:
    """Rows of text below `columns`; `sections` are the rows before which a line is drawn."""

    columns: Sequence[Column]
    title: str = ""
    rows: list[list[str]] = field(default_factory=list)
    sections: set[int] = field(default_factory=set)

    def add_row(self, *cells: str) -> None:
        self.rows.append([*cells])

    def add_section(self) -> None:
        self.sections.add(len(self.rows))

    def print(self, console: Console) -> None:
        """Print to fit: aligned columns without lines where the console is no terminal, whatever their width;
        else in a box, or, where even the important columns do not fit, each row as lines of name and value.
        """
        if self.title:
            console.print(Text(self.title), soft_wrap=not console.is_terminal)
        if not console.is_terminal:
            self._print_plain(console)
            return
        shown = list(range(len(self.columns)))
        while self._narrowest(shown) > console.width:
            optional = [index for index in shown if self.columns[index].importance]
            if not optional:
                self._print_records(console)
                return
            shown.remove(max(optional, key=lambda index: (self.columns[index].importance, index)))
        self._print_box(console, shown)
        if left_out := [column.name for index, column in enumerate(self.columns) if index not in shown]:
            console.print(Text(f"a wider terminal shows more: {', '.join(left_out)}"))

    def _cells(self, index: int) -> list[str]:
        return [self.columns[index].name, *(row[index] for row in self.rows)]

    def _least_width(self, index: int) -> int:
        """In which no word is cut."""
        longest = max((cell_len(word) for cell in self._cells(index) for word in cell.split()), default=0)
        if self.columns[index].breaks:
            return min(longest, max(_SHORTEST_PATH, cell_len(self.columns[index].name)))
        return longest

    def _narrowest(self, shown: Sequence[int]) -> int:
        return sum(self._least_width(index) + _BORDERS for index in shown) + 1

    def _print_box(self, console: Console, shown: Sequence[int]) -> None:
        table = RichTable()
        for index in shown:
            column = self.columns[index]
            table.add_column(
                Text(column.name),
                justify="right" if column.right else "left",
                overflow="fold",
                min_width=self._least_width(index),
            )
        for number, row in enumerate(self.rows):
            if number in self.sections:
                table.add_section()
            table.add_row(*(Text(row[index]) for index in shown))
        console.print(table)

    def _print_records(self, console: Console) -> None:
        for row in self.rows:
            record = RichTable.grid(padding=(0, 2))
            record.add_column(no_wrap=True)
            record.add_column(overflow="fold")
            for column, cell in zip(self.columns, row, strict=True):
                if cell:
                    record.add_row(Text(column.name or "-"), Text(cell))
            console.print(record)
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
