"""Runs the second stage of a search before a person's eyes. Imports nothing heavy before it is asked."""

import typer

from nas.cli.options import console, say
from nas.cli.views.run import print_standings
from nas.cli.views.search_progress import SearchProgress
from nas.runs.config import FinalistSettings
from nas.runs.folder import RunFolder


def second_stage(folder: RunFolder, settings: FinalistSettings) -> None:
    """Run the second stage of a run, or go on with it, and print its table. Raises typer.Exit where a person stops it."""
    from nas.runs.finalists import run_finalists, stage_config

    fidelity = stage_config(folder.config(), settings).fidelity
    images = "all" if fidelity.train_examples is None else f"{fidelity.train_examples:,}"
    shape = f"N={fidelity.cells}, F={fidelity.filters}, {fidelity.epochs} epochs on {images} training images"
    say(f"\nsecond stage: the best {settings.top} cells, {settings.seeds} seeds each, {shape}; in {folder.path}/finalists")
    progress = SearchProgress(console)
    standings = run_finalists(folder, settings, progress.watcher())
    print_standings(console, standings, settings.top)
    if progress.stopped() and standings.spent < standings.trainings:
        raise typer.Exit(130)
