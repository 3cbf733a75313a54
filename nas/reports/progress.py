"""How a search went on: the incumbent over children, time and cost, beside what random search would have. No torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from nas.reports.children import Child
from nas.reports.parts import Figure, Option, Table, Value

MOST = 2500
"""Children that a figure shows as points; of more it shows an even choice."""
BEST = "best so far"
CHILD = "child"
RANDOM = "random, expected"


@dataclass(frozen=True)
class Reference:
    """Rewards of cells drawn at random in this search's place, and who drew them; a child that failed counts as 0.

    ``of`` says what cells they are, where a person gave another search for it.
    """

    said: str
    rewards: tuple[float, ...]
    of: str = "cells drawn at random"

    def expected(self, count: int) -> float:
        """The expected best of so many draws with replacement from these: Σ x₍ᵢ₎ ((i/m)ⁿ − ((i−1)/m)ⁿ)."""
        m = len(self.rewards)
        return sum(x * ((i / m) ** count - ((i - 1) / m) ** count) for i, x in enumerate(sorted(self.rewards), start=1))


@dataclass(frozen=True)
class Level:
    """A reward to compare with, drawn across the whole figure: a control card's at the search's own rung, or chance."""

    name: str
    reward: float


UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
LEAST_UNITS = 2
"""A unit of time is taken where there are more than so many of it."""


@dataclass(frozen=True)
class _Step:
    """A child of the search that ended: how many had by then, seconds of work, seconds of all trainings together."""

    child: Child
    count: int
    time: float
    cost: float


def progress_figures(ended: Sequence[Child], reference: Reference | None, levels: Sequence[Level]) -> tuple[Figure, ...]:
    """Three figures of the children of the search in the order of their ends; none where none was completed."""
    steps = _steps(ended)
    if not any(step.child.reward is not None for step in steps):
        return ()
    unit, seconds = next(((name, size) for name, size in UNITS if max(steps[-1].time, steps[-1].cost) > LEAST_UNITS * size), UNITS[-1])
    axes: tuple[tuple[str, str, Callable[[_Step], float]], ...] = (
        ("children", "children trained", lambda step: step.count),
        ("time", f"{unit} of the search", lambda step: step.time / seconds),
        ("cost", f"{unit} of training, all workers together", lambda step: step.cost / seconds),
    )
    return tuple(_figure(name, title, at, steps, reference, levels) for name, title, at in axes)


def _steps(ended: Sequence[Child]) -> list[_Step]:
    found, cost = [], 0.0
    for count, child in enumerate((child for child in ended if child.spends), start=1):
        cost += child.seconds or 0.0
        found.append(_Step(child, count, child.ended or 0.0, cost))
    return found


def _figure(
    name: str, title: str, at: Callable[[_Step], float], steps: list[_Step], reference: Reference | None, levels: Sequence[Level]
) -> Figure:
    rows: list[tuple[Value, ...]] = []
    best = -math.inf
    every = math.ceil(len(steps) / MOST)
    for number, step in enumerate(steps):
        reward = step.child.reward
        if reward is not None and number % every == 0:
            rows.append((at(step), reward, CHILD, step.child.trial))
        if reward is not None and step.child.outcome == "completed" and reward > best:
            best = reward
            rows.append((at(step), best, BEST, step.child.trial))
    last = at(steps[-1])
    rows.append((last, best, BEST, None))
    if reference is not None:
        rows += [
            (at(steps[count - 1]), reference.expected(count), RANDOM, None) for count in _counts(min(len(reference.rewards), len(steps)))
        ]
    for level in levels:
        rows += [(0.0, level.reward, level.name, None), (last, level.reward, level.name, None)]
    said = "Each point is a child, the line the best reward so far."
    if reference is not None:
        said += f" Dashed: the expected best of as many {reference.of}."
    options: dict[str, Option] = {
        "points": (CHILD,),
        "steps": (BEST,),
        "x": title,
        "y": "reward (validation accuracy)",
        "x zero": True,
        "format": "~%",
    }
    table = Table.of((title, "reward", "series", "trial"), rows)
    return Figure(f"The incumbent over {name}", "progress", table, said, wide=name == "children", options=options)


def _counts(most: int) -> list[int]:
    """Up to about fifty numbers from 1 to ``most``, closer where they are small."""
    return sorted({round(most ** (i / 50)) for i in range(51)})


def card_levels(children: Sequence[Child]) -> list[Level]:
    """The control cards' mean rewards at the search's own rung."""
    names = dict.fromkeys(child.card for child in children if child.card is not None)
    found = []
    for name in names:
        rewards = [child.reward for child in children if child.card == name and child.rung == 0 and child.reward is not None]
        if rewards:
            found.append(Level(f"card {name}", fmean(rewards)))
    return found
