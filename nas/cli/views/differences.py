"""In what two runs differ, before a person's eyes. No torch."""

from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas.api.differing import differences
from nas.api.things import Thing
from nas.cli.options import say
from nas.tools.words import printable


def print_differences(console: Console, first: Thing, second: Thing) -> None:
    """A table for each group in which they differ; or that they are the same. Raises UserError."""
    found = differences(first, second)
    if not found:
        say(f"{printable(str(first.path))} and {printable(str(second.path))} are the same: settings, data, versions and results")
    for group, rows in groupby(found, key=lambda one: one.group):
        table = Table(title=group, title_justify="left")
        table.add_column("", overflow="fold")
        for thing in (first, second):
            table.add_column(Text(printable(str(thing.path))), overflow="fold")
        for one in rows:
            table.add_row(one.name, *(Text(_words(value)) for value in (one.first, one.second)))
        console.print(table)


def _words(value: object) -> str:
    return "–" if value is None else printable(str(value))
