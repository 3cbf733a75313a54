"""The curves of a training as a picture: loss, learning rate and accuracy by epoch, chance, the best epoch and the test. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.data.settings import data_words
from nas.errors import RunError
from nas.networks.scaling import short_number
from nas.tools.pictures import FONT, Palette, Theme, chance_line, check_picture, drawing, headline, named, per_cent_limits, save
from nas.training.folder import TrainFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTTED = 25
"""Epochs up to which each has a dot."""


@dataclass(frozen=True)
class Curves:
    """What is drawn: the records of ``metrics.jsonl``. Accuracies are in [0, 1].

    ``classes`` and ``best_epoch`` are 0 where they are not known; ``test_top1`` is the test accuracy of the best epoch.
    """

    history: Sequence[Mapping[str, float]]
    classes: int = 0
    best_epoch: int = 0
    test_top1: float | None = None
    title: str = ""
    note: str = ""

    def of(self, name: str) -> list[float]:
        """One figure by epoch."""
        return [record[name] for record in self.history]


def draw_curves(curves: Curves, path: str | Path, theme: Theme = "light") -> None:
    """Write the picture; there is at least one epoch.

    Raises:
        DrawError: the file cannot be written.
    """
    check_picture(path, theme)
    save(curves_figure(curves, theme), path, theme)


def curves_figure(curves: Curves, theme: Theme = "light") -> Figure:
    """Loss over the learning rate at the left, validation accuracy at the right, where the best epoch and the test are marked."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with drawing(theme) as colours:
        figure = Figure(figsize=(9.6, 4.1))
        top = headline(figure, curves.title or "training", curves.note) if curves.title or curves.note else 0.1
        grid = figure.add_gridspec(
            2, 2, height_ratios=(3, 1), left=0.08, right=0.985, bottom=0.125, top=1 - (top + 0.12) / 4.1, wspace=0.19, hspace=0.14
        )
        losses, rates, accuracies = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[:, 1])
        epochs = curves.of("epoch")
        mark = {"marker": "o", "markersize": 3} if len(epochs) <= DOTTED else {}
        _draw_losses(losses, curves, colours, mark)
        rates.plot(epochs, curves.of("learning_rate"), color=colours.series[2], gid=named("curve", "learning rate"))
        rates.set(xlabel="epoch", ylabel="learning\nrate", ylim=(0, None))
        rates.locator_params(axis="y", nbins=3)
        rates.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        _draw_accuracies(accuracies, curves, colours, mark)
        for axes in (losses, rates, accuracies):
            axes.set_xlim(min(epochs) if len(epochs) > 1 else 0, max(*epochs, 1) + (0.02 * len(epochs) if len(epochs) > 1 else 1))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        losses.tick_params(labelbottom=False)
        figure.align_ylabels([losses, rates])
    return figure


def _draw_losses(axes: Axes, curves: Curves, colours: Palette, mark: dict[str, object]) -> None:
    """Both losses, from 0; what is far above all others (a network before its averages are warm) is cut off and marked."""
    epochs = curves.of("epoch")
    known = {"training": curves.of("train_loss"), "validation": curves.of("validation_loss")}
    top = _top([value for values in known.values() for value in values], math.log(curves.classes) if curves.classes > 1 else 0.0)
    for (name, values), colour in zip(known.items(), colours.series, strict=False):
        axes.plot(epochs, values, label=name, color=colour, gid=named("curve", f"{name} loss"), **mark)  # type: ignore[arg-type]
        over = [epoch for epoch, value in zip(epochs, values, strict=True) if not value <= top]
        axes.plot(over, [top] * len(over), linestyle="", marker="^", markersize=5, color=colour, clip_on=False, zorder=4)
    axes.set(ylabel="loss", ylim=(0, top))
    axes.legend(loc="upper right")


def _top(values: Sequence[float], chance: float) -> float:
    """Where the axis of losses ends: above chance and nine tenths of the values, and above all where none is far off."""
    finite = sorted(value for value in values if math.isfinite(value)) or [1.0]
    usual = max(chance, finite[min(len(finite) - 1, int(0.9 * len(finite)))])
    return 1.08 * (finite[-1] if finite[-1] <= 2 * usual else 1.2 * usual)


def _draw_accuracies(axes: Axes, curves: Curves, colours: Palette, mark: dict[str, object]) -> None:
    """Validation accuracy, chance, the epoch whose weights are kept, and what these had on the test part."""
    epochs, values = curves.of("epoch"), [100 * value for value in curves.of("validation_top1")]
    name = named("curve", "validation accuracy")
    axes.plot(epochs, values, color=colours.series[1], label="validation", gid=name, **mark)  # type: ignore[arg-type]
    if curves.best_epoch in epochs:
        best = values[epochs.index(curves.best_epoch)]
        text = f"kept: {best:.2f} % (epoch {curves.best_epoch})"
        style = {"marker": "o", "markersize": 7, "linestyle": "", "markerfacecolor": colours.paper, "markeredgewidth": 1.6, "zorder": 4}
        axes.plot([curves.best_epoch], [best], markeredgecolor=colours.series[1], label=text, gid=named("mark", text), **style)  # type: ignore[arg-type]
    if curves.test_top1 is not None:
        height, text = 100 * curves.test_top1, f"test: {100 * curves.test_top1:.2f} % (those weights)"
        x = [curves.best_epoch or epochs[-1]]
        axes.plot(x, [height], "D", color=colours.series[3], markersize=6.5, label=text, zorder=5, gid=named("mark", text))
        values = [*values, height]
    chance = 100 / curves.classes if curves.classes > 1 else None
    axes.set(xlabel="epoch", ylabel="accuracy, %", ylim=per_cent_limits(values, chance))
    if chance is not None:
        chance_line(axes, curves.classes, colours)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, _above_chance(axes, chance)), fontsize=FONT - 1)


def _above_chance(axes: Axes, chance: float | None) -> float:
    """Where, as a share of the axes' height, the legend stands: over the line of chance and its words."""
    low, high = axes.get_ylim()
    return 0.0 if chance is None else (chance - low) / (high - low) + 0.06


# ------------------------------------------------------------------------------------------------ of a folder


def curves_of(place: TrainFolder, known: Mapping[str, Any] | None = None) -> Curves:
    """The curves of a training in its folder, as far as it has come.

    Args:
        place: the folder.
        known: what its result says, where that is not written yet.

    Raises:
        RunError: no epoch has ended yet, or a file is damaged.
    """
    result = (known if known is not None else place.result()) or {}
    try:
        history = place.metrics() if place.metrics_file.is_file() else []
        numbers = {key: int(result.get(key) or 0) for key in ("classes", "best_epoch", "parameters", "macs")}
        test = result.get("test")
        top1 = None if test is None else float(test["top1"])
        missing = {"epoch", "train_loss", "validation_loss", "validation_top1", "learning_rate"}.difference(*history[:1])
        if history and missing:
            raise ValueError(f"an epoch's record lacks {', '.join(sorted(missing))}")
    except (OSError, ValueError, TypeError, KeyError) as problem:
        raise RunError(f"{place.path}: metrics.jsonl and result.json must be as `nas train` wrote them, but {problem}") from None
    if not history:
        raise RunError(f"{place.path}: no epoch of this training has ended yet, so there are no curves")
    config = place.config()
    counted = [f"{short_number(numbers[key])} {words}" for key, words in (("parameters", "parameters"), ("macs", "MACs")) if numbers[key]]
    note = " · ".join([f"{data_words(config.data)}, recipe {config.recipe.name}, skeleton {config.skeleton['name']}", *counted])
    title = place.genotype().name or place.path.name
    return Curves(history, numbers["classes"], numbers["best_epoch"], top1, title, note)
