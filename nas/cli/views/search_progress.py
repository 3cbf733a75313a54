"""Shows a running search to a person: a live bar on a terminal, a plain line now and then elsewhere. No torch, no ray."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from controllers.controller import Failed
from nas.evaluators.evaluator import Report
from nas.runs.loop import Watcher
from nas.runs.standings import Standings
from nas.runs.state import RunState
from nas.runs.trials import Trial
from nas.tools.interrupts import Stopper
from nas.tools.words import duration

PLAIN_LINE_EVERY = 15.0
"""Seconds between two lines where the output is not a terminal."""


STOPPING = "stopping as soon as the children in training have ended; stopped before that, they go on from their last checkpoint on resume"


@dataclass
class SearchProgress:
    """Best reward so far, children a minute, time left; and Ctrl-C while children are trained. ``watcher`` is given to the search."""

    console: Console
    _state: RunState = field(default_factory=RunState)
    _budget: int = 0
    _start: float = 0.0
    _done_before: int = 0
    _failed: int = 0
    _last_line: float = 0.0
    _standings: Standings | None = None
    _bar: Progress | None = None
    _task: TaskID | None = None

    def __post_init__(self) -> None:
        self._stopper = Stopper(self.console.print, STOPPING)

    def watcher(self) -> Watcher:
        """Who tells a person about a search."""
        told = Watcher(self.during, self.on_report, self.on_end, on_warning=self.on_warning, stop=self.stopped)
        return replace(told, on_standings=self.on_standings, finish=self._stopper.asked)

    def stopped(self) -> bool:
        """Whether the search must stop without waiting for the children in training."""
        return self._stopper.urgent()

    @contextmanager
    def during(self, state: RunState, budget: int) -> Iterator[None]:
        """Around the time in which children are trained."""
        self._state, self._budget, self._done_before, self._start = state, budget, state.spent, time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("children"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"), console=self.console
            )
            self._task = self._bar.add_task("search", total=budget, completed=state.spent, text="starting workers …")
        with self._stopper, self._bar or nullcontext():
            yield

    def on_warning(self, message: str) -> None:
        """Something that a person should know."""
        self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def on_standings(self, standings: Standings) -> None:
        """The order of the cells has changed."""
        self._standings = standings

    def on_report(self, trial: Trial, report: Report) -> None:
        """An epoch ended."""
        self._show()

    def on_end(self, trial: Trial) -> None:
        """A trial ended."""
        if trial.evaluation is not None and isinstance(trial.evaluation.outcome, Failed):
            self._failed += 1
        self._show(force=self._state.spent >= self._budget)

    def text(self) -> str:
        """Everything but the bar."""
        done = self._state.spent - self._done_before
        seconds = time.monotonic() - self._start
        parts = self._best()
        if done:
            rate = done / seconds
            parts += [f"{rate * 60:.1f} a minute"]
            if self._state.spent < self._budget:
                more = ", then the rungs above" if self._state.ladder.rungs else ""
                parts.append(f"{duration((self._budget - self._state.spent) / rate)} left{more}")
        if redrawn := self._state.redrawn.total():
            parts.append(f"{redrawn} redrawn")
        for rung in range(1, len(self._state.ladder.rungs) + 1):
            if stands := self._state.ladder.at(rung):
                parts.append(f"rung {rung}: {len(self._state.ladder.done(rung))}/{len(stands)}")
        if self._failed:
            parts.append(f"{self._failed} failed")
        return " · ".join(parts)

    def _best(self) -> list[str]:
        """What is believed of the incumbent, and the control cards at the same rung."""
        found = self._standings
        if found is None or not found.ranked:
            return ["best –"]
        cards = [str(card) for card in found.cards_at(found.top)]
        where = f" at rung {found.top}" if found.top else ""
        return [f"best {found.ranked[0].belief.mean:.4f}{where}", *([f"there {', '.join(cards)}"] if cards else [])]

    def _show(self, force: bool = False) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._state.spent, text=self.text())
        elif force or time.monotonic() - self._last_line >= PLAIN_LINE_EVERY:
            self._last_line = time.monotonic()
            self.console.print(f"{self._state.spent}/{self._budget} children · {self.text()}", highlight=False)
