"""``nas finalists``: a run's best cells trained again, to know which is best."""

from typing import Annotated

import typer

from nas.cli.options import (
    DataDirOption,
    DryRunOption,
    JsonLinesOption,
    QuietOption,
    console,
    say,
    say_lines,
    say_next_of_dry_run,
    silenced,
)
from nas.tools.stages import doing


def finalists(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder, its name under runs/, or `last`.")],
    top: Annotated[int, typer.Option(min=1, max=1000, help="Cells to train again.")] = 25,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Times that each is trained.")] = 3,
    epochs: Annotated[int | None, typer.Option(help="Epochs of each; default twice the last rung's, or as in the search.")] = None,
    cells: Annotated[int | None, typer.Option(help="N, cells a stage; default as at the last rung, or in the search.")] = None,
    filters: Annotated[int | None, typer.Option(help="F, filters of the first stage; default likewise.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the images; default likewise.")] = None,
    train_examples: Annotated[int | None, typer.Option(help="Training images used at most; default all.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe's name, or a YAML file, to train by; default as at the last rung.")] = None,
    data_dir: DataDirOption = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    json: JsonLinesOption = False,
) -> None:
    """Add a rung to a finished run: its best cells trained again, at a higher fidelity; the same command goes on where it was stopped."""
    training = {"epochs": epochs, "cells": cells, "filters": filters, "image_size": image_size, "train_examples": train_examples}
    with silenced(quiet, json):
        with doing("reading the run"):
            from nas.api.wishes import absolute, data_at
            from nas.cli.views.ending import conclude, nothing_left_words
            from nas.cli.views.search_progress import SearchProgress, shown_on
            from nas.evaluators.settings import RungSettings
            from nas.runs import folder as run_folder
            from nas.runs import session as engine
            from nas.runs.checks import check_going_on, fetching_notes
            from nas.runs.config import finalists_rung
            from nas.runs.finalists import add_rung, with_rung_added
            from nas.runs.plan import describe_rung_time, rung_words
            from nas.settings.reading import validated
            from nas.tools.hardware import detect

            rung = validated(RungSettings, finalists_rung(top, seeds, recipe=recipe, **training))
            folder, hardware = run_folder.find(run), detect()
            raised, state = with_rung_added(folder, rung)
            raised = raised.model_copy(update={"data": data_at(raised.data, {"data_dir": data_dir})})
            due = engine.anything_left(raised, state, folder.space(raised))
        if due:
            check_going_on(raised, folder, hardware)
        say(f"one more rung: {rung_words(len(raised.ladder), raised)}; in {folder.path}" if due else nothing_left_words(folder))
        if due and not console.quiet:
            say_lines([describe_rung_time(raised, hardware), *fetching_notes(raised)])
        if dry_run:
            if due:
                say_next_of_dry_run()
            return
        shown = shown_on(console, quiet, json)
        conclude(add_rung(folder, rung, SearchProgress(shown).watcher(), absolute(data_dir)), shown)
