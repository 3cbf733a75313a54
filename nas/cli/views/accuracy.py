"""What ``nas evaluate`` found: in lines with a table of classes, as CSV or as JSON."""

import json
from collections.abc import Iterator
from typing import TextIO

from rich.cells import cell_len
from rich.text import Text

from nas.api.training import Accuracy
from nas.cli.shell.screen import broken, even
from nas.cli.views.writing import clipped, encoding_of, width
from nas.tools.words import printable
from nas.training.measured import ClassAccuracy

SHOWN = 12
"""Classes in the table: the worst ones of more."""
NUMBERS = 46
"""Columns beside the two names."""


def report(form: str, found: Accuracy, target: TextIO) -> None:
    """Write it."""
    if form == "json":
        target.write(json.dumps(found.measured.document(), indent=2) + "\n")
    elif form == "csv":
        target.write(found.measured.table())
    else:
        rows = (even(line, encoding_of(target)) for line in _table(found.classes))
        about = [printable(line) for line in found.lines()]
        if target.isatty():
            about = [broken(Text(line), width()).plain for line in about]
        target.writelines(f"{line}\n" for line in (*about, "", *map(printable, rows)))


def _table(classes: tuple[ClassAccuracy, ...]) -> Iterator[str]:
    shown = classes[:SHOWN]
    room = (width() - NUMBERS) // 2
    longest = min(room, max(len("class"), *(cell_len(printable(name)) for one in shown for name in (one.name, one.taken_for))))
    yield f"{clipped('class', longest)}  {'right':>13}  {'accuracy':>8}  {'95 % interval':15}  mostly taken for"
    for one in shown:
        low, high = one.interval
        right, between = f"{one.correct:,} of {one.images:,}", f"{100 * low:.1f} to {100 * high:.1f} %"
        other = f"  {clipped(printable(one.taken_for), longest).rstrip()} ({one.taken:,})" if one.taken else ""
        yield f"{clipped(printable(one.name), longest)}  {right:>13}  {100 * one.accuracy:6.1f} %  {between:15}{other}"
    if len(classes) > SHOWN:
        yield f"the worst {SHOWN} of {len(classes)} classes; all of them with --format csv or json"
