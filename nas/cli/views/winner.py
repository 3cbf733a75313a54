"""Trains the winner of a run's ladder before a person's eyes. Imports nothing heavy before it is asked."""

import typer

from nas.cli.options import console, say
from nas.cli.views.run import print_winner
from nas.runs.folder import RunFolder
from nas.runs.standings import WINNER
from nas.tools.interrupts import Stopper


def train_winner(folder: RunFolder) -> None:
    """Train the best of the last rung once more, or go on with that, and say how it did. Raises typer.Exit where a person stops it."""
    config = folder.config()
    if not config.ladder or config.evaluator != "train":
        return
    from nas.runs.finalists import crown
    from nas.training.numerics import own_threads

    say(f"the best of the last rung is trained once more, to read the test set, once: {folder.path / WINNER}")
    stopper = Stopper(console.print, "stopping; the same command, or `nas resume`, goes on")
    with stopper, own_threads():
        crown(folder, stopper.asked)
    print_winner(console, folder)
    if stopper.asked():
        raise typer.Exit(130)
