"""``nas reproduce``: the commands that make a run again."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import say, say_whole


def reproduce(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder or name of a search, training or comparison; `last`.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder that it is made in; default beside it, NAME-again.")] = None,
    go: Annotated[bool, typer.Option("--run", help="Make it now, and say in what both differ.")] = False,
) -> None:
    """Print the commands that make a search, a training or a comparison again, ready for a shell; or run them."""
    from nas.api.reproducing import check_trusted, reproduction
    from nas.api.things import find_thing
    from nas.tools.environment import COMMAND
    from nas.tools.words import printable

    found = reproduction(find_thing(run), output)
    say(f"# {found.thing.kind} {printable(str(found.thing.path))}")
    for fact in found.facts:
        (say_whole if ": nas " in fact else say)(f"# {printable(fact)}")
    for words in found.commands:
        say_whole(shlex.join(words))
    if not go:
        return
    check_trusted(found.thing)
    app = context.find_root().command
    for words in found.commands:
        COMMAND.set(words)
        code = app.main(list(words[1:]), "nas", standalone_mode=False)
        if isinstance(code, int) and code:
            raise typer.Exit(code)
