"""In what two runs differ, before a person's eyes. No torch."""

from collections.abc import Mapping
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas.api.differing import differences
from nas.api.things import Thing
from nas.cli.options import say
from nas.settings.reading import flat
from nas.tools.words import printable

NAME_COLUMNS = 32
"""As wide as the names of what differs are left whole."""


def print_differences(console: Console, first: Thing, second: Thing) -> None:
    """A table for each group in which they differ; or that they are the same. Raises UserError."""
    found = differences(first, second)
    if all(one.group == "time" for one in found):
        also = " but for the time that they took" if found else ""
        say(f"{printable(str(first.path))} and {printable(str(second.path))} are the same{also}: settings, data, versions and results")
    for group, differing in groupby(found, key=lambda one: one.group):
        rows = list(differing)
        table = Table(title=group, title_justify="left")
        table.add_column("", overflow="fold", min_width=min(NAME_COLUMNS, max(len(one.name) for one in rows)))
        for thing in (first, second):
            table.add_column(Text(printable(str(thing.path))), overflow="fold")
        for one in rows:
            table.add_row(one.name, *(Text(_words(value)) for value in (one.first, one.second)))
        console.print(table)


def _words(value: object) -> str:
    match value:
        case None:
            return "–"
        case float():
            return f"{value:.6g}"
        case list() if any(isinstance(inner, Mapping) for inner in value):  # the rungs of a ladder, each with what is said of it alone
            return "; ".join(map(_words, value))
        case Mapping():
            return ", ".join(f"{name} {_words(inner)}" for name, inner in flat(value).items() if inner is not None)
    return printable(str(value))
