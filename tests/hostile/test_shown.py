"""What people are shown is text, also where names hold what a terminal library takes for markup."""

from __future__ import annotations

import io

from rich.console import Console
from rich.table import Table

from producer import session


def test_names_with_brackets_are_shown_as_they_are() -> None:
    stream = io.StringIO()
    console: Console = session._console(stream)
    table = Table(title="[/] title")
    table.add_column("[/x] column")
    table.add_row("[/]")
    table.add_row("[red]class")
    console.print(table)
    console.print("worker [/]: [bold]fault")
    shown = stream.getvalue()
    for text in ("[/] title", "[/x] column", "[/]", "[red]class", "worker [/]: [bold]fault"):
        assert text in shown
