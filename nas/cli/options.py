"""What all commands share: the consoles, and the options that several of them take. Imports nothing heavy."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from search_spaces.plugins import as_written

console = Console()
errors = Console(stderr=True)

SkeletonOption = Annotated[
    str | None, typer.Option(callback=as_written, help="Macro network, see `nas list`; default: the one the genotype is known in.")
]
CellsOption = Annotated[int | None, typer.Option(help="N, cells a stage; default as published.")]
FiltersOption = Annotated[int | None, typer.Option(help="F, filters of the first stage's cells; default as published.")]
ClassesOption = Annotated[int | None, typer.Option(help="Classes; default as published.")]
ChannelsOption = Annotated[int, typer.Option(help="Channels of an image.")]
MacsOption = Annotated[str | None, typer.Option(metavar="NUMBER", help="Solve for N and F with about so many MACs: 564M.")]
ParamsOption = Annotated[str | None, typer.Option(metavar="NUMBER", help="Solve for N and F with about so many parameters: 5.3M.")]
SizeOption = Annotated[int | None, typer.Option(help="Side of an image in pixels; default as published.")]
SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN|GENOTYPE",
        help="Run folder, `last`, a reference genotype's name, a genotype file, or a text in DARTS', ENAS' or NAS-Bench-201's notation.",
    ),
]


def escape(text: str) -> str:
    """Text that rich prints as it is, brackets included."""
    from rich.markup import escape as escape_markup

    return escape_markup(text)


def absolute(folder: Path | None) -> str | None:
    """A folder as a run records it: so that the run can be resumed from anywhere."""
    return str(folder.expanduser().resolve()) if folder else None


def data_flags(data: str | None) -> dict[str, Any]:
    """``--data``: a data set's name (or ``module:attr``), or a folder of images."""
    if data is None:
        return {"data.name": None}
    if Path(data).expanduser().is_dir():
        return {"data.name": "folder", "data.root": absolute(Path(data))}
    from nas.data.registry import DATASETS

    DATASETS.check(as_written(data))
    return {"data.name": data}
