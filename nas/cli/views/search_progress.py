"""Shows a running search to a person: a live bar on a terminal, a plain line now and then elsewhere. No torch, no ray."""

import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from controllers.controller import Failed
from nas.evaluators.evaluator import Report
from nas.runs.state import RunState, Trial
from nas.tools.words import duration

PLAIN_LINE_EVERY = 15.0
"""Seconds between two lines where the output is not a terminal."""


@dataclass
class SearchProgress:
    """Best reward so far, children a minute, time left. Use as a context manager around the search."""

    console: Console
    state: RunState
    budget: int
    _start: float = field(default_factory=time.monotonic)
    _done_before: int = 0
    _failed: int = 0
    _last_line: float = 0.0
    _best: float | None = None
    _bar: Progress | None = None
    _task: TaskID | None = None

    def __enter__(self) -> "SearchProgress":
        self._done_before = self.state.spent
        ranked = self.state.ranked()
        self._best = ranked[0].reward if ranked else None
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("children"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"), console=self.console
            )
            self._task = self._bar.add_task("search", total=self.budget, completed=self.state.spent, text="starting workers …")
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_report(self, trial: Trial, report: Report) -> None:
        """An epoch ended."""
        self._show()

    def on_end(self, trial: Trial) -> None:
        """A trial ended."""
        if trial.evaluation is not None and isinstance(trial.evaluation.outcome, Failed):
            self._failed += 1
        if trial.reward is not None and (self._best is None or trial.reward > self._best):
            self._best = trial.reward
        self._show(force=self.state.spent >= self.budget)

    def text(self) -> str:
        """Everything but the bar."""
        done = self.state.spent - self._done_before
        seconds = time.monotonic() - self._start
        parts = [f"best {self._best:.4f}" if self._best is not None else "best –"]
        if done:
            rate = done / seconds
            parts += [f"{rate * 60:.1f} a minute", f"{duration((self.budget - self.state.spent) / rate)} left"]
        if self._failed:
            parts.append(f"{self._failed} failed")
        return " · ".join(parts)

    def _show(self, force: bool = False) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.state.spent, text=self.text())
        elif force or time.monotonic() - self._last_line >= PLAIN_LINE_EVERY:
            self._last_line = time.monotonic()
            self.console.print(f"{self.state.spent}/{self.budget} children · {self.text()}", highlight=False)
