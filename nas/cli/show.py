"""``nas show`` and ``nas list``."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import console


def show(
    name: Annotated[
        str,
        typer.Argument(metavar="RUN|NAME", help="Run folder, `last`, a genotype file, or a name from `nas list`."),
    ],
    top: Annotated[int, typer.Option(min=1, help="Trials in the table.")] = 10,
) -> None:
    """Show a run's ranking and its incumbent, or what a listed name stands for."""
    from nas.cli.views import run as report
    from nas.cli.views.listing import describe
    from nas.runs import folder as run_folder
    from nas.runs.standings import best_known
    from search_spaces.genotype import to_yaml

    text = describe(name)
    if text is not None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    folder = run_folder.find(name)
    config, state = folder.config(), folder.state()
    space = folder.space(config)
    report.print_run(console, folder, config, state, space, top)
    known = best_known(space, state)
    if known.trials:
        console.print(f"\nbest known ({known.how(1)}):")
        trial, believed = known.head(1)[0]
        best = run_folder.found_genotype(space, trial, folder.path.name, config.controller.name, believed)
        console.print(to_yaml(best), markup=False, highlight=False, soft_wrap=True)


def list_(
    what: Annotated[
        str | None,
        typer.Argument(
            help="runs, spaces, genotypes, skeletons, presets, recipes, controllers, evaluators, operations, datasets or exports; "
            "default runs, spaces, presets, controllers and evaluators."
        ),
    ] = None,
    root: Annotated[Path, typer.Option(help="Folder whose runs are listed.")] = Path("runs"),
) -> None:
    """List what there is of a kind, and where it comes from: built in, or from a package that is installed."""
    from nas.cli.views.listing import tables

    for table in tables(root, what):
        console.print(table)
    if what is None:
        console.print("`nas list genotypes` and `nas list skeletons` show published cells and networks with their parameters and MACs")
