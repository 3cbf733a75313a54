"""Shows a person how far a file has come that is being fetched."""

from collections.abc import Iterator
from contextlib import contextmanager

from nas.cli.views.doing import drawing_console
from nas.tools.transfers import Tell


@contextmanager
def bar(name: str) -> Iterator[Tell]:
    """A bar while one file is fetched, below whatever else is being done; it goes away afterwards."""
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from nas.cli.views.bars import Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bars(*columns, console=drawing_console()) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
