"""Bars of what is being done on a terminal, gone afterwards."""

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import Progress, ProgressColumn

ECHOED = 4
"""Columns that stay free at the right: a terminal writes ``^C`` there, which in the next line would leave the bar behind."""


class Bars(Progress):
    """Rich's bars, none of which fills its line."""

    def __init__(self, *columns: str | ProgressColumn, console: Console, disable: bool = False) -> None:
        self._place = console  # what is drawn is asked for before there is ``self.console``
        super().__init__(*columns, console=console, transient=True, disable=disable)

    def get_renderable(self) -> RenderableType:
        """What is drawn."""
        return Constrain(super().get_renderable(), self._place.width - ECHOED)
