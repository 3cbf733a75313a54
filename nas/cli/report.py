"""``nas report``."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import say, say_next
from nas.tools.stages import doing


def report(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|NET|COMPARISON", help="Folder of a run, a training or a comparison, `last`, or results of `nas bench`."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The .html file; default report.html in that folder.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="RUN", help="Of a run: another one, with --controller random, as the random reference.")
    ] = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Of a training: measure its weights now, for accuracy by class and confusion.")
    ] = False,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write a run, a training or a comparison as one HTML file that needs no network: figures, cells, tables, their data as CSV."""
    with doing(f"writing the report of {source}"):
        import nas

        path = nas.report(source, output, against=against, evaluate=evaluate)
    say(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB, needs no network)")
    if show:
        typer.launch(path.resolve().as_uri())
        return
    options = [word for name, value in (("-o", output), ("--against", against)) if value is not None for word in (name, value)]
    say_next(("the same, and open it in the browser", ["nas", "report", source, *options, *(["--evaluate"] if evaluate else []), "--open"]))
