"""``nas watch``: a search as its own terminal shows it, from another one or another machine, by the files in its folder."""

from typing import Annotated

import typer

from nas.cli.options import JsonLinesOption, console, errors
from nas.tools.stages import doing


def watch(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run folder, its name under runs/, or `last`.")] = "last",
    once: Annotated[bool, typer.Option("--once", help="Show it as it is now, and stop.")] = False,
    json: JsonLinesOption = False,
) -> None:
    """Watch a search, from any terminal or machine that sees its folder; Ctrl-C stops watching, never the search."""
    with doing(f"reading {run}"):
        from nas.cli.views.search_progress import shown_on
        from nas.cli.views.watching import look_until_end, show_once
        from nas.runs import folder as run_folder
        from nas.runs.following import Follower

        follower = Follower(run_folder.find(run))
        view, _ = follower.look()
    if once or view.over:
        show_once(console, view, json)
        return
    try:
        with shown_on(console, json=json) as shown:
            look_until_end(follower, shown)
    except KeyboardInterrupt:
        errors.print("no longer watched; the search goes on")
