"""``nas show`` and ``nas list``."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import console, say
from nas.errors import ConfigError
from search_spaces.plugins import guess


def show(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN|NAME",
            help="Folder or name of a run, a training or a comparison, a file of a genotype or a space, or a name from `nas list`; "
            "default `last`.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Trials in the table.")] = 10,
    compare: Annotated[bool, typer.Option("--compare", help="Say in what two runs differ: settings, data, versions, results.")] = False,
    listed: Annotated[bool, typer.Option("--listed", help="Take NAME for one from `nas list`, where a run has that name, too.")] = False,
) -> None:
    """Show a run's ranking and its incumbent, a training, a comparison, or what a listed name stands for; or in what two runs differ."""
    names = names or ["last"]
    if len(names) != (2 if compare else 1):
        raise ConfigError(f"nas show takes one name, and two with --compare, but got {len(names)}")
    from nas.api.things import find_thing, thing_named
    from nas.cli.views.listing import describe, names_described

    if compare:
        from nas.cli.views.differences import print_differences

        print_differences(console, *map(find_thing, names))
        return
    name, known = names[0], names_described()
    if listed and name not in known:
        raise ConfigError(f"--listed needs a name from `nas list`, but got {name!r}{guess(name, known)}")
    thing = thing_named(name) if name in known and not listed else None
    text = describe(name) if thing is None else None
    if text is not None:
        say(text)
        return
    from nas.cli.views.shown import print_thing

    print_thing(console, thing or find_thing(name, known), top)
    if thing is not None:
        say(f"this is {thing.path}; `nas show --listed {name}` shows the {known[name]} of that name")


def list_(
    what: Annotated[
        str | None,
        typer.Argument(
            help="runs (with trainings and comparisons), spaces, genotypes, skeletons, presets, recipes, controllers, evaluators, "
            "operations, datasets or exports; default runs, spaces, presets, controllers and evaluators."
        ),
    ] = None,
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders whose runs are listed; default runs/ and trained/ here or above, NAS_RUNS, and this folder."),
    ] = None,
    root: Annotated[list[Path] | None, typer.Option(help="A folder whose runs are listed, as FOLDERS; repeat for more.")] = None,
) -> None:
    """List what there is of a kind, and where it comes from: built in, or from a package that is installed."""
    from nas.cli.views.listing import tables

    if folders and what != "runs":
        raise ConfigError(f"folders go with runs, as in `nas list runs {folders[0]}`, but got {what!r}")
    for table in tables(what, [*(folders or ()), *(root or ())]):
        console.print(table)
    if what is None:
        console.print("`nas list genotypes` and `nas list skeletons` show published cells and networks with their parameters and MACs")
