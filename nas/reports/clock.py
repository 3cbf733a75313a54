"""Where the time of a search went: what each worker did when, and how much of it was training. No torch."""

from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush

from nas.reports.children import Child, where_words
from nas.reports.parts import Figure, Option, Table, Value

MOST = 1500
"""Trainings up to which a figure shows each of them."""


def time_figures(children: Sequence[Child]) -> tuple[Figure, ...]:
    """Minutes by rung, in training and around it; and each worker's trainings, where they are not too many."""
    timed = sorted((child for child in children if child.started is not None and child.ended is not None), key=_started)
    spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for child in timed:
        whole = (child.ended or 0.0) - (child.started or 0.0)
        inside = min(child.seconds or 0.0, whole)
        parts = spent[where_words(child.rung, child.card is not None)]
        parts[0] += inside / 60
        parts[1] += (whole - inside) / 60
    rows = [(where, minutes, series) for where, parts in sorted(spent.items()) for minutes, series in zip(parts, PARTS, strict=True)]
    worked = Figure(
        "Where the workers' time went",
        "bars",
        Table.of(("where", "minutes", "series"), rows),
        "Time of all workers together, from a child's start to its end.",
        options={"y": "minutes of all workers"},
    )
    return (worked, _lanes(timed)) if len(timed) <= MOST else (worked,)


PARTS = ("training and validation", "starting, data, waiting, reporting")


def _started(child: Child) -> float:
    return child.started or 0.0


def _lanes(timed: Sequence[Child]) -> Figure:
    """Each training in the first lane that was free when it started: as many lanes as trained at once."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    rows: list[tuple[Value, ...]] = []
    for child in timed:
        start, end = (child.started or 0.0) / 60, (child.ended or 0.0) / 60
        while busy and busy[0][0] <= start:
            heappush(free, heappop(busy)[1])
        lane = heappop(free) if free else len(busy) + 1
        heappush(busy, (end, lane))
        rows.append((start, end, lane, "failed" if child.outcome == "failed" else child.where, child.trial, child.reward))
    table = Table.of(("minute", "end", "lane", "series", "trial", "reward"), rows)
    options: dict[str, Option] = {"x": "minutes of the search", "x zero": True, "y": "at once"}
    return Figure(
        "What was trained when", "lanes", table, "Each bar is one training; gaps are workers without one.", wide=True, options=options
    )
