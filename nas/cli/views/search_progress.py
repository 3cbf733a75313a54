"""Shows a running search to a person, in the process that runs it: the view of ``nas watch``, and Ctrl-C. No torch, no ray."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from nas.cli.options import errors, say_lines
from nas.cli.views.live import JsonLines, Lines, Screen, Shown, Silence
from nas.evaluators.evaluator import Report
from nas.runs.config import SearchConfig
from nas.runs.loop import Watcher
from nas.runs.search_view import TrialView, trial_view, view_of
from nas.runs.standings import Standings
from nas.runs.state import RunState
from nas.runs.trials import Trial
from nas.tools.interrupts import Stopper

STOPPING = "stopping as soon as the children in training have ended; stopped before that, they go on from their last checkpoint on resume"
KEPT_NOTES = 5


def shown_on(console: Console, quiet: bool = False, json: bool = False) -> Shown:
    """What shows a search: a view on a terminal, lines elsewhere, JSON for programs, or nothing but warnings."""
    if json:
        return JsonLines(Console(file=sys.stdout))
    if quiet:
        return Silence(errors, Console(file=sys.stdout))
    return Screen(console) if console.is_terminal else Lines(console)


@dataclass
class SearchProgress:
    """Follows a search by what it is told. ``watcher`` is given to the search."""

    shown: Shown
    _state: RunState = field(default_factory=RunState)
    _config: SearchConfig | None = None
    _run: str = ""
    _last_look: float = 0.0
    _standings: Standings | None = None
    _ended: list[TrialView] = field(default_factory=list)
    _notes: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stopper = Stopper(self.shown.say, STOPPING)

    def watcher(self) -> Watcher:
        """Who tells a person about a search."""
        told = Watcher(self.during, self.on_report, self.on_end, self.on_lost, on_warning=self.on_warning, stop=self.stopped)
        return replace(told, on_note=self.on_note, on_standings=self.on_standings, on_begin=self.on_begin, finish=self._stopper.asked)

    def stopped(self) -> bool:
        """Whether the search must stop without waiting for the children in training. Asked all the time, it is when to look, too."""
        self._look()  # a child that is begun is no other event
        return self._stopper.urgent()

    def on_begin(self, folder: Path, config: SearchConfig) -> None:
        """The run has a folder."""
        self._run, self._config = str(folder), config

    @contextmanager
    def during(self, state: RunState, budget: int) -> Iterator[None]:
        """Around the time in which children are trained."""
        self._state = state
        with self._stopper, self.shown:
            self._look(force=True)
            try:
                yield
            finally:
                self._look(force=True)

    def on_warning(self, message: str) -> None:
        """Something that a person should know."""
        self.shown.say(message)
        self._note(message)

    def on_note(self, message: str) -> None:
        """What was noticed of the images, or is done with them."""
        say_lines([f"note:   {message}"])
        self.shown.note(message)

    def on_standings(self, standings: Standings) -> None:
        """The order of the cells has changed."""
        self._standings = standings

    def on_report(self, trial: Trial, report: Report) -> None:
        """An epoch ended."""
        self._look()

    def on_lost(self, trial: Trial, reason: str, detail: str) -> None:
        """An attempt came to nothing, and there will be another."""
        self._note(f"trial {trial.number}, attempt {trial.attempts}: {reason}; it is tried again")
        self._look()

    def on_end(self, trial: Trial) -> None:
        """A trial ended."""
        self._ended.append(trial_view(trial))
        self._look()

    def _note(self, text: str) -> None:
        self._notes = [*self._notes, (time.time(), text)][-KEPT_NOTES:]

    def _look(self, force: bool = False) -> None:
        """Show what there is to see, not too often: children of a table or a formula end by the hundred."""
        if self._config is None or not (force or time.monotonic() - self._last_look >= self.shown.every):
            return
        self._last_look = time.monotonic()
        ended, self._ended = self._ended, []
        self.shown.show(view_of(self._run, self._config, self._state, self._standings, self._notes), ended)
