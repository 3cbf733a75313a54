"""``nas runs``: searches, trainings and comparisons listed, removed, renamed, and given a note."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import console, say
from nas.cli.shell.command import Group, Shown
from nas.errors import ConfigError

runs = typer.Typer(name="runs", help="Look after runs: searches, trainings and comparisons.", no_args_is_help=True, cls=Group)

RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUN", help="Folders or names of searches, trainings or comparisons; `last`.")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Folder or name of a search, training or comparison; `last`.")]


@runs.command(name="list", cls=Shown)
def list_runs(
    folders: Annotated[list[Path] | None, typer.Argument(help="Folders whose runs are listed; default as `nas list runs`.")] = None,
) -> None:
    """List searches, trainings and comparisons: the same as `nas list runs`."""
    from nas.cli.views.things import tables

    for table in tables(folders or ()):
        console.print(table)


@runs.command(cls=Shown)
def rm(
    names: RunsArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove runs with all that they wrote; what somebody else put into their folders stays. Asks first; refuses one at work."""
    from nas.api.things import find_thing
    from nas.api.upkeep import at_rest, remove
    from nas.tools.files import size_of
    from nas.tools.words import megabytes, printable

    things = {thing.path.resolve(): thing for thing in map(find_thing, names)}.values()
    for thing in things:  # all are looked at before any is removed
        with at_rest(thing):
            pass
        say(f"{thing.kind} {printable(str(thing.path))}, {megabytes(size_of(thing.path))}")
    if not yes and not console.is_terminal:
        raise ConfigError("nas runs rm asks before it removes anything, and there is no terminal to ask on: give --yes")
    if not yes and not typer.confirm("remove this for good?" if len(things) == 1 else f"remove these {len(things)} for good?"):
        say("nothing was removed")
        raise typer.Exit(1)
    for thing in things:
        left = remove(thing)
        kept = f"; not its own, and left there: {', '.join(printable(path.name) for path in left)}" if left else ""
        say(f"removed {printable(str(thing.path))}{kept}")


@runs.command(cls=Shown)
def rename(
    run: RunArgument,
    name: Annotated[str, typer.Argument(help="New name, in the same place; or a path to move it to.")],
) -> None:
    """Give a run another name. The former one still finds it, and so do trainings that came of it."""
    from nas.api.things import find_thing
    from nas.api.upkeep import rename as give_name
    from nas.tools.words import printable

    thing = find_thing(run)
    say(f"{printable(str(thing.path))} is now {printable(str(give_name(thing, name)))}")


@runs.command(cls=Shown)
def note(
    run: RunArgument,
    text: Annotated[str, typer.Argument(help="A line of your own; an empty one removes it.")],
) -> None:
    """Keep a line with a run, which `nas list runs` and `nas show` show."""
    from nas.api.things import find_thing
    from nas.api.upkeep import note as keep
    from nas.tools.words import printable

    thing = find_thing(run)
    keep(thing, text)
    say(f"{printable(str(thing.path))}: {printable(text.strip()) or 'no note'}")
