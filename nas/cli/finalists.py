"""``nas finalists``: a run's best cells trained again, to know which is best."""

from typing import Annotated, Any

import typer

from nas.cli.options import console


def finalists(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder, its name under runs/, or `last`.")],
    top: Annotated[int, typer.Option(min=1, max=1000, help="Cells to train again.")] = 25,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Times that each is trained.")] = 3,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each training; default as in the search.")] = None,
    cells: Annotated[int | None, typer.Option(help="N, cells a stage; default as in the search.")] = None,
    filters: Annotated[int | None, typer.Option(help="F, filters of the first stage; default as in the search.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the images; default as in the search.")] = None,
    train_examples: Annotated[int | None, typer.Option(help="Training images used at most; default all.")] = None,
) -> None:
    """Train a run's best cells again at a higher fidelity with several seeds; the same command goes on where it was stopped."""
    from nas.runs import folder as run_folder
    from nas.runs.config import FinalistSettings
    from nas.settings.reading import validated

    fidelity = {"epochs": epochs, "cells": cells, "filters": filters, "image_size": image_size, "train_examples": train_examples}
    second_stage(run_folder.find(run), validated(FinalistSettings, {"top": top, "seeds": seeds, **fidelity}))


def second_stage(folder: Any, settings: Any) -> None:  # noqa: ANN401 - types whose import would load much
    """Run the second stage of a run, or go on with it, and print its table."""
    from nas.cli.views import run as report
    from nas.runs.finalists import run_finalists, stage_config

    fidelity = stage_config(folder.config(), settings).fidelity
    images = "all" if fidelity.train_examples is None else f"{fidelity.train_examples:,}"
    shape = f"N={fidelity.cells}, F={fidelity.filters}, {fidelity.epochs} epochs on {images} training images"
    console.print(
        f"\nsecond stage: the best {settings.top} cells, {settings.seeds} seeds each, {shape}; in {folder.path}/finalists", highlight=False
    )
    standings = run_finalists(folder, settings, console)
    report.print_standings(console, standings, settings.top)
