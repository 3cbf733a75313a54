"""A confusion matrix in a file: a picture with names that can be read, or comma-separated numbers."""

import warnings
from pathlib import Path

import numpy as np

from nas.errors import ConfigError
from nas.tools.files import write_atomically
from nas.training.measured import Answers, as_csv

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
    names = [_short(answers.names[i]) for i in shown]
    count = len(shown)
    cell = 0.42 if count <= NUMBERED else 0.16 if count <= NAMED else 12 / count  # inches; the letters of a name need 0.14
    side, margin = max(1.8, cell * count), 0.5 + 0.085 * max(map(len, names)) * (count <= NAMED)
    figure = Figure(figsize=(side + margin + 1.2, side + margin + 0.6), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the row", shrink=min(1.0, 3.5 / side), format="{x:.0%}")
    axes.set(xlabel="taken for", ylabel="is")
    if count <= NAMED:
        # A name is shown as it is: without parse_math, "$" would begin a formula.
        letters = 9 if count <= NUMBERED else 7
        axes.set_xticks(range(count), names, rotation=90, fontsize=letters, parse_math=False)
        axes.set_yticks(range(count), names, fontsize=letters, parse_math=False)
    if count <= NUMBERED:
        for (row, column), number in np.ndenumerate(counts):
            if number:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(number), ha="center", va="center", fontsize=8 if number < 1000 else 6, color=colour)
    scratch = path.with_name(f".{path.name}.part")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(scratch, dpi=120, format="png")
    scratch.replace(path)


def _short(name: str) -> str:
    """The name's beginning and end: names that begin alike often end in a number."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}…{name[-8:]}"
