"""Charts of comparisons: networks by accuracy, latency and size; controllers by what they found after so many trainings. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nas.networks.scaling import short_number
from nas.tools.pictures import (
    FONT,
    Palette,
    Theme,
    chance_line,
    check_picture,
    drawing,
    headline,
    label_points,
    named,
    per_cent_limits,
    save,
    shortened,
    text_width,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOG_FROM = 20
"""How many times the smallest the greatest must be for an axis of costs to be logarithmic; others begin at 0."""
LONGEST = 32
"""Letters of a name that a chart shows."""


@dataclass(frozen=True)
class Point:
    """A network: test accuracies in [0, 1], one a seed; the latency is NaN where it was not measured."""

    label: str
    accuracies: tuple[float, ...]
    latency_ms: float
    size: float
    on_front: bool = False

    @property
    def height(self) -> float:
        """Mean accuracy in per cent."""
        return 100 * float(np.mean(self.accuracies))

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds in per cent; 0 for one."""
        return 100 * float(np.std(self.accuracies, ddof=1)) if len(self.accuracies) > 1 else 0.0


@dataclass(frozen=True)
class Front:
    """What ``draw_front`` draws.

    ``size`` says what the points' sizes count, ``place`` where latency was measured; ``classes`` is 0 where they are not known.
    """

    points: Sequence[Point]
    size: str
    title: str
    note: str = ""
    classes: int = 0
    place: str = "one CPU thread"


def draw_front(front: Front, path: str | Path, theme: Theme = "light") -> None:
    """Draw accuracy over latency and over size.

    Raises:
        DrawError: the file cannot be written.
    """
    check_picture(path, theme)
    save(front_figure(front, theme), path, theme)


def front_figure(front: Front, theme: Theme = "light") -> Figure:
    """Two charts of one height: accuracy over latency, with the front of those that nobody beats in both, and over size."""
    from matplotlib.figure import Figure

    seeds = max((len(point.accuracies) for point in front.points), default=0)
    spread = f"bars: ± one standard deviation over {seeds} seeds" if seeds > 1 else ""
    near = _chance_is_near(front)
    chance = f"chance: {100 / front.classes:.3g} %" if front.classes > 1 and not near else ""
    with drawing(theme) as colours:
        figure = Figure(figsize=(10, 4.6))
        top = headline(figure, front.title, " · ".join(filter(None, (front.note, spread, chance))))
        left, right = figure.subplots(
            1, 2, sharey=True, gridspec_kw={"left": 0.065, "right": 0.985, "bottom": 0.115, "top": 1 - (top + 0.1) / 4.6, "wspace": 0.07}
        )
        known = [point for point in front.points if math.isfinite(point.latency_ms)]
        left.set(xlabel=f"latency of one image on {front.place}, ms", ylabel="test accuracy, %")
        right.set(xlabel=front.size)
        if not front.points:
            left.set_ylim(0, 100)
            return figure
        reach = [point.height + side * point.deviation for point in front.points for side in (-1, 1)]
        left.set_ylim(per_cent_limits(reach, 100 / front.classes if near else None))
        _draw_points(left, known, [point.latency_ms for point in known], front, colours)
        _draw_points(right, front.points, [point.size for point in front.points], front, colours)
        right.xaxis.set_major_formatter(lambda value, _: short_number(round(value)))
        _draw_stairs(left, known, colours)
        if near:
            for axes in (left, right):
                chance_line(axes, front.classes, colours)
    return figure


def _chance_is_near(front: Front) -> bool:
    """Whether the axis can begin at chance without pressing the points together."""
    if front.classes < 2 or not front.points:
        return False
    heights = [point.height for point in front.points]
    return min(heights) - 100 / front.classes <= max(max(heights) - min(heights), 5.0)


def _draw_points(axes: Axes, points: Sequence[Point], values: Sequence[float], front: Front, colours: Palette) -> None:
    """The points with their names; the axis begins at 0, or is logarithmic where costs differ by much."""
    if not points:
        return
    if min(values) > 0 and max(values) > LOG_FROM * min(values):
        axes.set(xscale="log", xlim=(min(values) / 1.6, max(values) * 1.6))
        _plain_ticks(axes)
    else:
        axes.set_xlim(0, 1.18 * max(values))
    names = [point.label for point in front.points]
    for point, value in zip(points, values, strict=True):
        colour = colours.series[names.index(point.label) % len(colours.series)]
        text = f"{point.label}: {point.height:.2f} %"
        error = point.deviation or None
        bars = axes.errorbar(value, point.height, yerr=error, fmt="o", markersize=6, capsize=3, color=colour, elinewidth=1.2, zorder=3)
        bars[0].set_gid(named("point", text))
    places = [(value, point.height) for point, value in zip(points, values, strict=True)]
    label_points(axes, places, [shortened(point.label, LONGEST) for point in points], colours)


def _draw_stairs(axes: Axes, points: Sequence[Point], colours: Palette) -> None:
    """The front: the best accuracy to be had for so much latency."""
    front = sorted((point.latency_ms, point.height) for point in points if point.on_front)
    if len(front) > 1:
        xs, ys = zip(*front, strict=True)
        axes.step(xs, ys, where="post", color=colours.outline, linestyle="--", linewidth=1.0, zorder=1, gid=named("front", "the front"))


# ------------------------------------------------------------------------------------------------ controllers


@dataclass(frozen=True)
class Line:
    """A controller: the mean report after each training, and half of its 95 % interval, in [0, 1], both (trainings,)."""

    label: str
    mean: npt.NDArray[np.float64]
    half_width: npt.NDArray[np.float64]
    runs: int


def draw_anytime(lines: Sequence[Line], optimum: float, path: str | Path, title: str = "", theme: Theme = "light") -> None:
    """Draw what controllers had found after so many trainings, with 95 % bands, up to the best there is (``optimum``, in [0, 1]).

    Raises:
        DrawError: the file cannot be written.
    """
    check_picture(path, theme)
    save(anytime_figure(lines, optimum, title, theme), path, theme)


def anytime_figure(lines: Sequence[Line], optimum: float, title: str = "", theme: Theme = "light") -> Figure:
    """Mean reports over trainings, which are on a logarithmic axis; the names stand in the order of the last values."""
    from matplotlib.figure import Figure

    names = [shortened(line.label, LONGEST) for line in lines]
    beside = max(text_width(name, FONT - 1) for name in names) + 0.75
    width, height = 7.2 + beside, 4.6
    with drawing(theme) as colours:
        figure = Figure(figsize=(width, height))
        note = f"report of the best by reward, mean of {min(line.runs for line in lines)} runs; bands: 95 % interval of the mean"
        top = headline(figure, title or "controllers", note)
        axes = figure.add_axes((0.68 / width, 0.5 / height, (7.2 - 0.75) / width, 1 - (top + 0.62) / height))
        drawn: list[Any] = []
        for i, (line, name) in enumerate(zip(lines, names, strict=True)):
            drawn.append(_draw_anytime_line(axes, line, name, i, colours))
        _limit_anytime(axes, lines, optimum)
        axes.axhline(100 * optimum, color=colours.muted, linestyle=(0, (1, 2)), linewidth=1.2, gid=named("best", "best there is"))
        place = axes.get_yaxis_transform()
        axes.text(0.005, 100 * optimum, "best there is", transform=place, va="bottom", fontsize=FONT - 1, color=colours.muted)
        order = sorted(range(len(lines)), key=lambda i: -float(lines[i].mean[-1]))
        figure.legend(
            [drawn[i] for i in order], [names[i] for i in order], loc="upper left", bbox_to_anchor=(7.0 / width, 1 - (top + 0.08) / height)
        )
        axes.set(xlabel="trainings paid for", ylabel="report, %")
    return figure


def _draw_anytime_line(axes: Axes, line: Line, name: str, number: int, colours: Palette) -> object:
    colour = colours.series[number % len(colours.series)]
    style = ("-", (0, (5, 2)), (0, (1, 1.5)))[number // len(colours.series) % 3]
    trainings, mean, width = np.arange(1, len(line.mean) + 1), 100 * line.mean, 100 * line.half_width
    axes.fill_between(trainings, mean - width, mean + width, color=colour, alpha=0.16, linewidth=0)
    return axes.plot(trainings, mean, label=name, color=colour, linestyle=style, gid=named("curve", line.label))[0]


def _limit_anytime(axes: Axes, lines: Sequence[Line], optimum: float) -> None:
    """From what was known after ten trainings to just above the best there is."""
    budget = max(len(line.mean) for line in lines)
    lowest = min(100 * float(line.mean[min(9, len(line.mean) - 1)]) for line in lines)
    highest = max(100 * optimum, *(100 * float(line.mean.max()) for line in lines))
    room = max(highest - lowest, 0.01)
    axes.set_ylim(lowest, min(100.0 + 0.06 * room, highest + 0.06 * room))
    axes.set_xscale("log")
    axes.set_xlim(min(5, max(1, budget // 2)), max(budget, 2))
    _plain_ticks(axes)


def _plain_ticks(axes: Axes) -> None:
    """Numbers as people write them on a logarithmic axis."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
