"""Shows a search whose process is another one, until it ends. No torch, no ray."""

import time
from collections.abc import Callable

from rich.console import Console

from nas.cli.options import say_marked
from nas.cli.views.live import Shown, drawn, unheld
from nas.cli.views.search_progress import shown_on
from nas.runs.following import Follower
from nas.runs.search_view import SearchView

LOOK_SECONDS = 1.0
"""Between two looks at the ledger."""


def look_until_end(follower: Follower, shown: Shown, sleep: Callable[[float], None] = time.sleep) -> None:
    """Show the search until it has ended and nobody goes on with it; say it where nobody seems to before its end, and wait for who will."""
    told = False
    while True:
        view, ended = follower.look()
        shown.show(view, ended)
        if view.over:
            return
        if (words := unheld(view, view.time)) and not told:
            shown.say(words)
        told = bool(words)
        sleep(LOOK_SECONDS)


def show_once(console: Console, view: SearchView, json: bool) -> None:
    """A search as it is now."""
    if console.is_terminal and not json:
        console.print(drawn(view, view.time, max(console.height, 40), not console.options.ascii_only))
    else:
        with shown_on(console, json=json) as shown:
            shown.show(view, () if json else view.trials)
    if not json and (words := unheld(view, view.time)):
        say_marked("note:", "bold yellow", words, console)
