"""Predictions as a table, as CSV or as JSON, written as they come."""

import csv
import json
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich.cells import cell_len

from nas.api.predicting import likeliest
from nas.cli.views.writing import clipped, printable, width
from nas.training.prediction import Seen

LEAST_FILE = 20
"""Columns that a file's name has at least."""
SHARE = 7
"""Columns of a probability: 100.0 %."""

Ranked = tuple[tuple[str, float], ...]


def report(form: str, class_names: Sequence[str], answers: Iterable[Seen], top: int, target: TextIO) -> tuple[int, int]:
    """Write every answer when it comes; returns how many images were read, and how many could not be."""
    written = {"table": Table, "csv": Lines, "json": Objects}[form](class_names, min(top, len(class_names)), target)
    read = unread = 0
    for seen in answers:
        if seen.probabilities is None:
            unread += 1
            written.problem(seen.name, seen.problem)
        else:
            read += 1
            written.answer(seen.name, likeliest(class_names, seen.probabilities, top))
    written.end()
    return read, unread


class Table:
    """For a person: one line an image with the runner-up beside it; more classes below each other."""

    def __init__(self, class_names: Sequence[str], top: int, target: TextIO) -> None:
        self._target, self._beside = target, top == 2
        longest = max(len("class"), *(cell_len(printable(name)) for name in class_names))
        columns = 2 if self._beside else 1
        room = width() - columns * (SHARE + 4) - LEAST_FILE
        self._name = min(longest, max(8, room // columns))
        self._file = max(LEAST_FILE, width() - columns * (self._name + SHARE + 4))
        self._line(clipped("file", self._file), "class", f"{'':{SHARE}}", "runner-up" if self._beside else "")

    def answer(self, name: str, ranked: Ranked) -> None:
        """The likeliest classes of one image."""
        file = clipped(printable(name), self._file, end=True)
        if self._beside and len(ranked) > 1:
            self._line(file, ranked[0][0], _share(ranked[0][1]), ranked[1][0], _share(ranked[1][1]))
            return
        for label, share in ranked:
            self._line(file, label, _share(share))
            file = " " * self._file

    def problem(self, name: str, why: str) -> None:
        """An image that cannot be read."""
        self._target.write(f"{clipped(printable(name), self._file, end=True)}  cannot be read: {printable(why)}\n")

    def end(self) -> None:
        """Nothing more comes."""

    def _line(self, file: str, label: str, share: str, other: str = "", other_share: str = "") -> None:
        cells = [file, clipped(printable(label), self._name), share]
        if other:
            cells += [clipped(printable(other), self._name), other_share]
        self._target.write("  ".join(cells).rstrip() + "\n")


def _share(probability: float) -> str:
    return f"{100 * probability:{SHARE - 2}.1f} %"


class Lines:
    """Comma-separated, for programs: a line an image."""

    def __init__(self, class_names: Sequence[str], top: int, target: TextIO) -> None:
        self._top, self._rows = top, csv.writer(target, lineterminator="\n")
        more = [f"{what}_{place}" for place in range(2, top + 1) for what in ("class", "probability")]
        self._rows.writerow(["file", "class", "probability", *more, "problem"])

    def answer(self, name: str, ranked: Ranked) -> None:
        """The likeliest classes of one image."""
        self._rows.writerow([_encodable(name), *(_encodable(str(cell)) for label, share in ranked for cell in (label, f"{share:.6f}")), ""])

    def problem(self, name: str, why: str) -> None:
        """An image that cannot be read."""
        self._rows.writerow([_encodable(name), *[""] * (2 * self._top), _encodable(why)])

    def end(self) -> None:
        """Nothing more comes."""


def _encodable(text: str) -> str:
    """The text, with bytes of a file's name that are no UTF-8 written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


class Objects:
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
