"""Shows a person what is being done before there is anything to see: a spinner on a terminal, a line elsewhere; on the error stream."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from nas.cli import options
from nas.tools.stages import Tell

PLAIN_LINE_EVERY = 15.0
"""Seconds between two lines of one thing where the output is not a terminal."""


def drawing_console() -> Console:
    """Where spinners and bars are drawn, all of them: one within another only where both are on one console.

    Where what a command prints goes to a terminal, so do they, so that they are kept below that; else on the error stream.
    """
    return options.console if options.console.is_terminal and not options.console.quiet else options.errors


@contextmanager
def shown_stage(what: str, console: Console | None = None) -> Iterator[Tell]:
    """Show it while it is being done. It is drawn before anything else happens: an import may keep all other threads waiting."""
    console = console or drawing_console()
    if not console.is_terminal:
        console.print(f"{what} …", highlight=False, markup=False)
        yield _Lines(what, console)
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn

    from nas.cli.views.bars import Bars

    text, far = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[far]}")
    columns = SpinnerColumn("line" if console.options.ascii_only else "dots"), text, BarColumn(), far, TimeElapsedColumn()
    with Bars(*columns, console=console) as progress:
        task = progress.add_task(what, total=None, far="")
        progress.refresh()
        yield lambda done, total: progress.update(task, completed=done, total=total, far=f"{done:,}/{total:,}")


class _Lines:
    """How far something has come, now and then."""

    def __init__(self, what: str, console: Console) -> None:
        self._what, self._console, self._last = what, console, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self._last >= PLAIN_LINE_EVERY:
            self._last = time.monotonic()
            self._console.print(f"{self._what}: {done:,} of {total:,}", highlight=False, markup=False)
