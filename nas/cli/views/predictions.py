"""Predictions as a table, as CSV or as JSON, written as they come."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol, TextIO

from rich.cells import cell_len

from nas.api.predicting import likeliest
from nas.cli.shell.screen import even
from nas.cli.views.writing import clipped, encoding_of, width
from nas.tools.words import printable

if TYPE_CHECKING:
    from nas.training.prediction import Seen

LEAST_FILE = 20
"""Columns that a file's name has at least."""
PEEKED = 64
"""Images whose names say how wide the column of files is."""
PROBABILITY, SHARE = len("probability"), len("100.0 %")
"""Columns of the likeliest class's probability and of the runner-up's."""

Ranked = tuple[tuple[str, float], ...]


def report(form: str, class_names: Sequence[str], answers: "Iterable[Seen]", top: int, target: TextIO) -> tuple[int, int]:
    """Write every answer when it comes; returns how many images were read, and how many could not be."""
    forms: dict[str, Callable[[Sequence[str], int, TextIO], Form]] = {"table": Table, "csv": Lines, "json": Objects}
    written = forms[form](class_names, min(top, len(class_names)), target)
    read = unread = 0
    rest = iter(answers)
    first = list(islice(rest, PEEKED))
    written.begin([seen.name for seen in first])
    for seen in chain(first, rest):
        if seen.probabilities is None:
            unread += 1
            written.problem(seen.name, seen.problem)
        else:
            read += 1
            written.answer(seen.name, likeliest(class_names, seen.probabilities, top))
    written.end()
    return read, unread


class Form(Protocol):
    """How predictions are written."""

    def begin(self, first: Sequence[str]) -> None:
        """Called once, before all else, with the names of the first images."""

    def answer(self, name: str, ranked: Ranked) -> None:
        """The likeliest classes of one image."""

    def problem(self, name: str, why: str) -> None:
        """An image that cannot be read."""

    def end(self) -> None:
        """Nothing more comes."""


class Table(Form):
    """For a person: one line an image with the runner-up beside it; more classes below each other."""

    def __init__(self, class_names: Sequence[str], top: int, target: TextIO) -> None:
        self._target, self._beside = target, top == 2
        shares = PROBABILITY + 4 + (self._beside and SHARE + 4)
        names = 2 if self._beside else 1
        longest = max(cell_len(name) for name in ("class", *map(printable, class_names)))
        self._name = min(longest, max(8, (width() - shares - LEAST_FILE) // names))
        self._room = max(LEAST_FILE, width() - shares - names * self._name)
        self._file = 0

    def begin(self, first: Sequence[str]) -> None:
        """The head, as wide as the first names of files are; longer ones that follow push their line to the right where there is room."""
        self._file = min(self._room, max(cell_len(printable(name)) for name in ("file", *first)))
        other = "  runner-up" if self._beside else ""
        self._write(f"{clipped('file', self._file)}  {clipped('class', self._name)}  probability{other}")

    def answer(self, name: str, ranked: Ranked) -> None:
        """The likeliest classes of one image."""
        file, (label, share) = self._fitted(name), ranked[0]
        if self._beside:
            other, second = ranked[1]
            self._write(f"{file}  {self._cell(label)}  {_share(share, PROBABILITY)}  {self._cell(other)}  {_share(second, SHARE)}")
            return
        for label, share in ranked:
            self._write(f"{file}  {self._cell(label)}  {_share(share, PROBABILITY)}")
            file = " " * cell_len(file)

    def problem(self, name: str, why: str) -> None:
        """An image that cannot be read."""
        self._write(f"{self._fitted(name)}  cannot be read: {printable(why)}")

    def _write(self, line: str) -> None:
        self._target.write(f"{even(line, encoding_of(self._target))}\n")

    def _fitted(self, name: str) -> str:
        shown = printable(name)
        return clipped(shown, min(self._room, max(self._file, cell_len(shown))), end=True)

    def _cell(self, label: str) -> str:
        return clipped(printable(label), self._name)


def _share(probability: float, cells: int) -> str:
    return f"{100 * probability:{cells - 2}.1f} %"


class Lines(Form):
    """Comma-separated, for programs: a line an image."""

    def __init__(self, class_names: Sequence[str], top: int, target: TextIO) -> None:
        self._top, self._rows = top, csv.writer(target, lineterminator="\n")

    def begin(self, first: Sequence[str]) -> None:
        """The head."""
        more = [f"{what}_{place}" for place in range(2, self._top + 1) for what in ("class", "probability")]
        self._rows.writerow(["file", "class", "probability", *more, "problem"])

    def answer(self, name: str, ranked: Ranked) -> None:
        """The likeliest classes of one image."""
        cells = [cell for label, share in ranked for cell in (_encodable(label), f"{share:.6f}")]
        self._rows.writerow([_encodable(name), *cells, ""])

    def problem(self, name: str, why: str) -> None:
        """An image that cannot be read."""
        self._rows.writerow([_encodable(name), *[""] * (2 * self._top), _encodable(why)])


def _encodable(text: str) -> str:
    """The text, with bytes of a file's name that are no UTF-8 written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class Objects(Form):
    """One JSON array, an object a line."""

    def __init__(self, class_names: Sequence[str], top: int, target: TextIO) -> None:
        self._target, self._before = target, "["

    def answer(self, name: str, ranked: Ranked) -> None:
        """The likeliest classes of one image."""
        likely = [{"class": label, "probability": round(share, 6)} for label, share in ranked]
        self._write({"file": name, **likely[0], "likeliest": likely})

    def problem(self, name: str, why: str) -> None:
        """An image that cannot be read."""
        self._write({"file": name, "problem": why})

    def end(self) -> None:
        """Nothing more comes."""
        self._target.write("[]\n" if self._before == "[" else "\n]\n")

    def _write(self, entry: dict[str, object]) -> None:
        self._target.write(f"{self._before}\n{json.dumps(entry)}")
        self._before = ","
