"""How a session of a search ends before a person's eyes: its tables, its ladder's winner, its exit code. Imports nothing heavy before."""

from typing import TYPE_CHECKING, Any

import typer

from nas.cli.options import console, say, say_next
from nas.cli.views.run import print_winner
from nas.errors import LossesError
from nas.runs.folder import RunFolder
from nas.runs.standings import winner_test
from nas.tools.interrupts import Stopper
from nas.training.folder import WINNER

if TYPE_CHECKING:
    from nas.cli.views.live import Shown


def train_winner(folder: RunFolder) -> int | None:
    """Train the best of the last rung once more, or go on with that, and say how it did. Raises typer.Exit where a person stops it.

    Returns:
        The trial that has won; None without a ladder, or where no cell has come to its end.
    """
    config = folder.config()
    if not config.ladder or config.evaluator != "train":
        return None
    from nas.runs.finalists import crown
    from nas.training.numerics import own_threads

    before = winner_test(folder)

    def begin(trial: int) -> None:
        say(f"trial {trial}, the best of the last rung, is trained once more, to read the test set, once: {folder.path / WINNER}")
        if before is not None:
            say(f"the winner until now, trial {before['trial']}, stays beside it, as earlier-winner-…")

    stopper = Stopper(console.print, "stopping; the same command, or `nas resume`, goes on")
    with stopper, own_threads():
        crowned = crown(folder, stopper.asked, begin)
    if crowned:
        print_winner(console, folder)
    if stopper.asked():
        say_next(("go on with it", ["nas", "resume", folder.path]))
        raise typer.Exit(130)
    test = winner_test(folder) if crowned else None
    return None if test is None else test["trial"]


def nothing_left_words(folder: RunFolder) -> str:
    """What to say first where a search is to go on that is at its end; its winner may not have been trained to the end."""
    config = folder.config()
    lacking = config.ladder and config.evaluator == "train" and winner_test(folder) is None
    return f"{folder.path}: nothing is left to train" + (" but its winner" if lacking else ": it was finished before")


def conclude(result: Any, shown: "Shown") -> None:  # noqa: ANN401 - nas.runs.session.SearchResult, whose import would load the engine
    """Show what a session came to, train the winner of its ladder, and exit as it ended."""
    try:
        _conclude(result)
    finally:
        shown.end(str(result.folder.path), result.ending.value, winner_test(result.folder))


def _conclude(result: Any) -> None:  # noqa: ANN401 - as above
    from nas.cli.views import run as report
    from nas.runs import session as engine
    from nas.runs.standings import best_known

    console.print()
    report.print_run(console, result.folder, result.config, result.state, result.space)
    best = result.folder.best_folder
    if result.state.ranked():
        console.print(f"genotypes: {best}/1.yaml … {best}/{len(list(best.glob('*.yaml')))}.yaml", highlight=False)
    if result.mirror is not None:
        console.print(result.mirror, markup=False, highlight=False)
    if result.ending.value == "exhausted":
        console.print("the search space is exhausted: of many cells drawn at random every one has been trained, or breaks a limit")
    winner = train_winner(result.folder) if result.ending.value in ("finished", "exhausted") else None
    left = not engine.at_its_end(result.config, result.state, result.space)
    say_next(*report.next_commands(result.folder.path, result.state, best_known(result.space, result.state), left, winner))
    engine.check_failing(result)
    if result.ending.value == "interrupted":
        raise typer.Exit(130)
    if result.state.losses():  # the table has said so
        raise typer.Exit(LossesError.exit_code)
