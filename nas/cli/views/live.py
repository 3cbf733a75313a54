"""A search as a person sees it now: one function that draws it, and what it is on a terminal, in lines, and in JSON. No torch, no ray."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any, Protocol

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from nas.runs.search_view import ChildView, IncumbentView, RungView, SearchView, TrialView
from nas.runs.standings import CardStanding
from nas.tools.intervals import half_width
from nas.tools.words import counted, duration, quoted

SCHEMA = "nas.search/1"
"""Of every line that ``--json`` prints: fields may be added, none is removed or means something else under this name."""
SILENT_SECONDS = 120.0
"""After so long without a word in the ledger a person is told so."""
UNHELD_SECONDS = 5.0
"""How old the last word is before the lock of a run is looked at: a process is closing its books, or just beginning."""
MOST_CHILDREN, MOST_TRIALS, MOST_NOTES = 8, 6, 3
MOST_LINES = 20
"""Of one batch of outcomes, where they come by the hundred."""
PROGRESS_EVERY = 15.0
"""Seconds between two looks at the whole in JSON."""
FIXED_LINES = 14
"""What a view needs beside its rungs, children and events."""
NOT_MEASURED = "~"
"""Before an accuracy at a rung that the cell has not been trained at: what is expected there."""
EXPECTED_DIGITS = 2
"""Of what was not measured: its interval is wide."""
BLOCKS = "▁▂▃▄▅▆▇█"


# ---------------------------------------------------------------------------------------------------- drawn


def drawn(view: SearchView, now: float, height: int = 40, unicode: bool = True) -> RenderableType:
    """A search in a frame, at most so many lines high, from 80 columns on.

    Args:
        view: what there is to see.
        now: the time: the view may have been made some time ago.
        height: of the terminal.
        unicode: whether it shows more than ASCII.
    """
    room = max(4, height - FIXED_LINES - len(view.rungs) - len(view.notes))
    children = view.children[: min(MOST_CHILDREN, max(2, room // 2))]
    trials = view.trials[-min(MOST_TRIALS, max(2, room - len(children) - 1)) :]
    parts: list[RenderableType] = [_rungs(view, now), Text(), _facts(view, now, unicode)]
    if children:
        parts += [Text(), _children(view, children, now)]
    if trials or view.notes:
        parts += [Text(), _events(view, trials)]
    return Panel(Group(*parts), title=Text(view.run, style="bold"), title_align="left", subtitle=_when(view, now), box=ROUNDED)


def _when(view: SearchView, now: float) -> Text:
    if view.ending is not None:
        return Text(ended_words(view))
    since = max(0.0, now - view.last)
    parts = [duration(view.elapsed + since)]
    left = left_now(view, now)
    if left is not None:
        parts.append(f"about {duration(left)} left")
    if since > SILENT_SECONDS:
        parts.append(f"no word for {duration(since)}")
    if unheld(view, now):
        return Text.assemble(("no process is at work here", "bold red"), f" · last word {duration(since)} ago")
    return Text(" · ".join(parts))


def ended_words(view: SearchView) -> str:
    """How a search has ended, and after how much work: ``finished after 4 min 30 s``; and whether somebody is about to go on with it."""
    return f"{view.ending} after {duration(view.elapsed)}" + (" · a process is at work in it" if view.running else "")


def unheld(view: SearchView, now: float) -> str:
    """What to say of a search that has not ended and that no process seems to go on with; nothing of any other."""
    if view.running or view.ending is not None or now - view.last < UNHELD_SECONDS:
        return ""
    return (
        f"no process on this machine is at work in {view.run}, and its last word is {duration(now - view.last)} old: it was killed "
        f"(`nas resume {quoted(view.run)}` goes on), or it runs on another machine"
    )


def left_now(view: SearchView, now: float) -> float | None:
    """Seconds left of the whole, less those that have passed since the ledger's last word."""
    return None if view.left is None or view.ending is not None else max(0.0, view.left - max(0.0, now - view.last))


def rung_left_now(view: SearchView, rung: RungView, now: float) -> float | None:
    """Seconds left of a rung: as ``left_now``, those that have passed being shared by the rungs as the children in training are."""
    if rung.left is None or view.ending is not None:
        return rung.left
    next_up = next((one.rung for one in view.rungs if one.left), 0)
    at_work = [child.rung for child in view.children] or [next_up]
    return max(0.0, rung.left - max(0.0, now - view.last) * at_work.count(rung.rung) / len(at_work))


def _rungs(view: SearchView, now: float) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True, min_width=14)
    for rung in view.rungs:
        seeds = f" × {rung.seeds} seeds" if rung.seeds > 1 else ""
        bar = ProgressBar(max(1, rung.places), rung.done)
        table.add_row(Text(rung_name(rung.rung), style="bold"), bar, f"{rung.done}/{rung.places}{seeds}", _left(view, rung, now))
    return table


def rung_name(rung: int) -> str:
    """What a rung is called: ``search`` or ``rung 1``."""
    return f"rung {rung}" if rung else "search"


def _left(view: SearchView, rung: RungView, now: float) -> Text:
    if rung.done >= rung.places:
        return Text("done", style="green")
    left = rung_left_now(view, rung, now)
    return Text("" if left is None else f"{duration(left)} left", style="dim")


def _facts(view: SearchView, now: float, unicode: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, text in (
        ("incumbent", incumbent_words(view.incumbent, view.digits) if view.incumbent is not None else "none yet"),
        ("cards", _cards(view)),
        ("workers", "none at work here" if unheld(view, now) else _workers(view)),
        ("saved", _saved(view)),
        ("failures", _counted(view.failures) or "none"),
        ("tried again", _counted(view.setbacks)),
        ("policy", _policy(view, unicode)),
    ):
        if text:
            table.add_row(name, Text(text, style="red" if name == "failures" and view.failures else ""))
    return table


def incumbent_words(found: IncumbentView, digits: int) -> str:
    """``0.8123 ± 0.0100 at rung 1 (trial 57), 3 tied``; what was not measured there is ``~0.8123``."""
    where = f" at rung {found.rung}" if found.rung else ""
    tied = f", {found.ties} tied" if found.rung and found.ties > 1 else ""
    digits = digits if found.trained >= found.rung else EXPECTED_DIGITS
    mean = f"{NOT_MEASURED * (found.trained < found.rung)}{found.mean:.{digits}f}"
    return f"{mean} ± {half_width(found.mean, found.low, found.high):.{digits}f}{where} (trial {found.trial}){tied}"


def _cards(view: SearchView) -> str:
    return " · ".join(card_words(card, view.digits) for card in view.cards)


def card_words(card: CardStanding, digits: int) -> str:
    """``nasnet-a 0.8123``, the mean where there are several seeds."""
    seeds = f" ({len(card.rewards)} seeds)" if len(card.rewards) > 1 else ""
    return f"{card.name} {fmean(card.rewards):.{digits}f}{seeds}"


def _workers(view: SearchView) -> str:
    busy = len(view.children)
    return f"{min(busy, view.workers)} of {view.workers} busy" if view.workers else f"{counted(busy, 'child', 'children')} in training"


def _saved(view: SearchView) -> str:
    parts = [f"{counted(view.repeats, 'repeat')} answered free"] if view.repeats else []
    return " · ".join([*parts, f"{view.redrawn} redrawn"] if view.redrawn else parts)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items(), key=lambda pair: -pair[1]))


def _policy(view: SearchView, unicode: bool) -> str:
    if not view.entropy:
        return ""
    line = " " + "".join(BLOCKS[max(0, min(7, int(8 * share)))] for share in view.entropy) if unicode else ""
    return f"entropy {view.entropy[-1]:.0%} of the greatest{line} · {counted(view.updates, 'update')}"


def _children(view: SearchView, children: Sequence[ChildView], now: float) -> Table:
    more = len(view.children) - len(children)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("in training" + (f" (and {more} more)" if more else ""), no_wrap=True, min_width=24)
    for name in ("epoch", "accuracy", "for"):
        table.add_column(name, justify="right", no_wrap=True)
    for child in children:
        reward = "–" if child.reward is None else f"{child.reward:.{view.digits}f}"
        since = duration(max(0.0, (now if view.ending is None else view.last) - child.began))
        table.add_row(Text(child_name(child)), f"{child.epoch}/{child.epochs}", reward, since)
    return table


def child_name(child: ChildView | TrialView) -> str:
    """``trial 12``, ``trial 40 (cells of 12, rung 1)`` or ``nasnet-a (rung 1)``."""
    if child.card is not None:
        return f"{child.card} ({rung_name(child.rung)})"
    return f"trial {child.trial}" + (f" (cells of {child.origin}, rung {child.rung})" if child.rung else "")


def _events(view: SearchView, trials: Sequence[TrialView]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim", min_width=8)
    table.add_column(overflow="ellipsis", no_wrap=True)
    said = [(trial.time, Text(trial_words(trial, view.digits), style="red" if trial.outcome == "failed" else "")) for trial in trials]
    said += [(when, Text(text, style="yellow")) for when, text in view.notes[-MOST_NOTES:]]
    for when, text in sorted(said, key=lambda pair: pair[0]):
        table.add_row(clock(when), text)
    return table


def clock(when: float) -> str:
    """The time of day here."""
    return time.strftime("%H:%M:%S", time.localtime(when))


def trial_words(trial: TrialView, digits: int) -> str:
    """``trial 12  0.8123``; or how it came to nothing."""
    name = child_name(trial)
    if trial.repeats is not None:
        return f"{name}: repeats trial {trial.repeats}, free"
    if trial.outcome == "failed":
        return f"{name}: failed, {trial.reason}: {' '.join((trial.detail or '').split())[:200]}"
    return f"{name}: {trial.reward:.{digits}f}" + (f", stopped {trial.detail}" if trial.outcome == "stopped" else "")


# ---------------------------------------------------------------------------------------------------- as lines


def progress_words(view: SearchView, now: float) -> str:
    """The whole in a line: ``41/300 children · rung 1 3/30 · best 0.8123 ± 0.0100 (trial 57) · 4 min 10 s left``; or how it ended."""
    parts = [f"{view.spent}/{view.budget} children"]
    parts += [f"rung {rung.rung} {rung.done}/{rung.places}" for rung in view.rungs[1:] if rung.done]
    parts.append(f"best {incumbent_words(view.incumbent, view.digits)}" if view.incumbent is not None else "best –")
    if view.cards:
        parts.append(f"there {', '.join(card_words(card, view.digits) for card in view.cards)}")
    if view.failures:
        parts.append(f"{sum(view.failures.values())} failed")
    if (left := left_now(view, now)) is not None:
        parts.append(f"{duration(left)} left")
    if view.ending is not None:
        parts.append(ended_words(view))
    return " · ".join(parts)


def document(view: SearchView) -> dict[str, Any]:
    """The view as plain data, for ``--json``; fields as in ``docs/search.md``."""
    found = asdict(view)
    found["cards"] = [{"name": card.name, "rung": card.rung, "rewards": list(card.rewards)} for card in view.cards]
    found["notes"] = [{"time": when, "text": text} for when, text in view.notes]
    found["entropy"] = view.entropy[-1] if view.entropy else None
    del found["trials"], found["digits"]
    return found


# ---------------------------------------------------------------------------------------------------- shown


class Shown(Protocol):
    """Shows a search, from its plan to its end; while it is entered, how it goes.

    ``every``: seconds between two looks that are worth while.
    """

    every: float

    def plan(self, lines: Sequence[str], seconds: float | None) -> None:
        """What will be done, and in how many seconds, has been said to persons."""
        ...

    def note(self, text: str) -> None:
        """What there is to know of the images has been said to persons."""
        ...

    def end(self, run: str, ending: str, winner: Mapping[str, Any] | None) -> None:
        """The search is over, and how has been said to persons; ``winner`` is the one reading of the test set, where there was one."""
        ...

    def show(self, view: SearchView, ended: Sequence[TrialView]) -> None:
        """Show what there is now; ``ended`` are the trials that have ended since."""
        ...

    def say(self, text: str) -> None:
        """Show a line that a person should read."""
        ...

    def __enter__(self) -> "Shown": ...

    def __exit__(self, *error: object) -> None: ...


class _ForPersons:
    """To whom the plan, notes and the end are said in other words."""

    def plan(self, lines: Sequence[str], seconds: float | None) -> None:
        """Nothing more."""

    def note(self, text: str) -> None:
        """Nothing more."""

    def end(self, run: str, ending: str, winner: Mapping[str, Any] | None) -> None:
        """Nothing more."""


class Screen(_ForPersons):
    """On a terminal: one view that is drawn again and again.

    While it is, an empty line is below it, where the cursor stands: a ``^C`` that the terminal writes there, beside the right lower
    corner it would go on in the next line, and all that is drawn over would be a line too low.
    """

    every = 0.25

    def __init__(self, console: Console) -> None:
        self._console = console
        self._view: SearchView | None = None
        self._last = False
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=2, vertical_overflow="ellipsis")

    def _draw(self) -> RenderableType:
        if self._view is None:
            return Text("starting workers …", style="dim")
        unicode = not self._console.options.ascii_only
        view = drawn(self._view, time.time(), self._console.height - 1, unicode)
        return view if self._last else Group(view, Text())

    def show(self, view: SearchView, ended: Sequence[TrialView]) -> None:
        """Draw it."""
        first, self._view = self._view is None, view
        if first:
            self._live.refresh()

    def say(self, text: str) -> None:
        """Above the view."""
        self._console.print(text, markup=False, highlight=False)

    def __enter__(self) -> "Screen":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._last = True
        self._live.stop()


class Lines(_ForPersons):
    """Elsewhere: a line for every training that ends, and for a new incumbent."""

    every = 1.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._best: int | None = None
        self._begun = False

    def show(self, view: SearchView, ended: Sequence[TrialView]) -> None:
        """A line for each; and the whole after the last of them."""
        told = [trial for trial in ended if trial.repeats is None]
        if len(told) > MOST_LINES:
            self.say(f"… {len(told) - MOST_LINES} more trainings ended")
        for trial in told[-MOST_LINES:]:
            self.say(f"{clock(trial.time)}  {trial_words(trial, view.digits)}")
        if view.incumbent is not None and view.incumbent.trial != self._best:
            self._best = view.incumbent.trial
            self.say(f"{clock(view.last)}  trial {self._best} is the incumbent")
        if told or view.over or not self._begun:
            self._begun = True
            self.say(f"{clock(view.time if view.ending is None else view.last)}  {progress_words(view, view.time)}")

    def say(self, text: str) -> None:
        """A line as it is."""
        self._console.print(text, markup=False, highlight=False)

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *error: object) -> None:
        pass


class JsonLines:
    """One JSON object a line, for programs."""

    every = 1.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._best: int | None = None
        self._last = -PROGRESS_EVERY

    def show(self, view: SearchView, ended: Sequence[TrialView]) -> None:
        """``trial`` for each, ``incumbent`` for another one, ``progress`` now and then and at the end."""
        for trial in ended:
            self.write("trial", **asdict(trial))
        if view.incumbent is not None and view.incumbent.trial != self._best:
            self._best = view.incumbent.trial
            self.write("incumbent", time=view.last, **asdict(view.incumbent))
        if view.over or time.monotonic() - self._last >= PROGRESS_EVERY:
            self._last = time.monotonic()
            self.write("progress", **document(view))

    def plan(self, lines: Sequence[str], seconds: float | None) -> None:
        """``plan``."""
        self.write("plan", time=time.time(), seconds=seconds, lines=list(lines))

    def note(self, text: str) -> None:
        """``note``."""
        self.write("note", time=time.time(), text=text)

    def end(self, run: str, ending: str, winner: Mapping[str, Any] | None) -> None:
        """``end``, the last line."""
        self.write("end", time=time.time(), run=run, ending=ending, winner=winner)

    def say(self, text: str) -> None:
        """As ``note``."""
        self.note(text)

    def write(self, event: str, **fields: object) -> None:
        """One object."""
        line = json.dumps({"schema": SCHEMA, "event": event, **fields}, allow_nan=False)
        self._console.out(line, highlight=False)

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *error: object) -> None:
        pass


class Silence(_ForPersons):
    """Nothing is shown but what a person must read, on the error stream; and the run's folder, at the end."""

    every = 3600.0

    def __init__(self, errors: Console, output: Console) -> None:
        self._errors, self._output = errors, output

    def end(self, run: str, ending: str, winner: Mapping[str, Any] | None) -> None:
        """The run's folder."""
        self._output.out(run, highlight=False)

    def show(self, view: SearchView, ended: Sequence[TrialView]) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """On the error stream."""
        self._errors.print(text, markup=False, highlight=False)

    def __enter__(self) -> "Silence":
        return self

    def __exit__(self, *error: object) -> None:
        pass
