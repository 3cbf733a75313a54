"""A confusion matrix in a file: a picture with names that can be read, or comma-separated numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.errors import ConfigError
from nas.tools.files import write_atomically
from nas.tools.pictures import FONT, Palette, drawing, headline, save, shortened, text_width
from nas.training.measured import Answers, as_csv

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

SUFFIXES = (".png", ".csv")
NUMBERED = 30
"""Classes up to which every cell shows its number."""
NAMED = 150
"""Classes up to which every row and column has its name."""
LONGEST = 24
"""Characters of a name that are shown."""


def check_confusion_file(path: Path) -> None:
    """Raise ConfigError for a file that no matrix can be written to."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--confusion must name a file that ends in {' or '.join(SUFFIXES)}, but got {path.name!r}")
    if not path.parent.is_dir():
        raise ConfigError(f"--confusion must name a file in a folder that exists, but there is no {path.parent}")


def save_confusion(answers: Answers, path: Path) -> None:
    """Write the matrix: rows are what images are, columns what they were taken for.

    A picture leaves out classes that neither occurred nor were answered; a .csv file has them all.

    Raises:
        ConfigError: the file's name ends otherwise.
    """
    check_confusion_file(path)
    if path.suffix.lower() == ".png":
        _draw(answers, path)
        return
    rows = zip(answers.names, answers.confusion().tolist(), strict=True)
    write_atomically(path, as_csv([("class", *answers.names), *((name, *row) for name, row in rows)]))


def _draw(answers: Answers, path: Path) -> None:
    """Each row's shares as shades, so that classes of many images do not outshine the others."""
    from matplotlib.figure import Figure

    shown = np.unique(np.concatenate([answers.labels, answers.predicted]))
    counts = answers.confusion()[np.ix_(shown, shown)]
    names = [shortened(answers.names[i], LONGEST) for i in shown]
    count = len(shown)
    cell = 0.42 if count <= NUMBERED else 0.18 if count <= NAMED else 12 / count  # inches; the letters of a name need 0.14
    letters = FONT if count <= NUMBERED else 7
    margin = 0.45 + (max(text_width(name, letters) for name in names) if count <= NAMED else 0.35)
    side = max(1.8, cell * count)
    width, height = max(margin + side + 1.0, 4.2), margin + side + 0.85
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    with drawing() as colours:
        figure = Figure(figsize=(width, height))
        right = np.trace(answers.confusion()) / max(1, len(answers.labels))
        headline(figure, "What was taken for what", f"{len(answers.labels):,} images, {right:.2%} right; shades: share of the row")
        axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
        image = axes.imshow(shares, cmap=_shades(colours), vmin=0, vmax=1)
        bar = figure.add_axes(((margin + side + 0.2) / width, margin / height, 0.12 / width, min(side, 3.0) / height))
        figure.colorbar(image, cax=bar, format="{x:.0%}").outline.set_visible(False)
        axes.set(xlabel="taken for", ylabel="is")
        _dress(axes, names if count <= NAMED else None, letters, colours)
        if count <= NUMBERED:
            for (row, column), number in np.ndenumerate(counts):
                if number:
                    colour = colours.paper if shares[row, column] > 0.5 else colours.ink
                    axes.text(column, row, str(number), ha="center", va="center", fontsize=8 if number < 1000 else 6, color=colour)
    save(figure, path)


def _shades(colours: Palette) -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shares", [colours.paper, colours.series[0]])


def _dress(axes: Axes, names: Sequence[str] | None, letters: float, colours: Palette) -> None:
    """Names and hairs between the cells, where there are not too many of them."""
    axes.grid(visible=False)
    axes.tick_params(length=0)
    if names is None:
        return
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=letters)
    axes.set_yticks(range(len(names)), names, fontsize=letters)
    for place in np.arange(0.5, len(names) - 1):
        axes.axhline(place, color=colours.grid, linewidth=0.5)
        axes.axvline(place, color=colours.grid, linewidth=0.5)
