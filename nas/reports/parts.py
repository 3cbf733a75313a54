"""What a report is made of, as plain data: tables, figures of them, pictures of cells, and sections that have these. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nas.training.measured import as_csv
from search_spaces.genotype import Genotype

Value = str | int | float | bool | None
Option = Value | Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of plain values under names."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    @staticmethod
    def of(columns: Sequence[str], rows: Iterable[Sequence[Value]]) -> "Table":
        """The table of these rows, each as long as ``columns``."""
        return Table(tuple(columns), tuple(tuple(row) for row in rows))

    def records(self) -> list[dict[str, Value]]:
        """The rows as a chart takes them; what is None is left out."""
        return [{name: value for name, value in zip(self.columns, row, strict=True) if value is not None} for row in self.rows]

    def csv(self) -> str:
        """As comma-separated lines, the names first."""
        return as_csv([self.columns, *self.rows])


@dataclass(frozen=True)
class Figure:
    """A chart of a table: ``chart`` names one of ``nas.reports.charts.CHARTS``, ``options`` are its own.

    ``said`` tells a person what there is to see; ``wide`` is one that needs the page's whole width.
    """

    title: str
    chart: str
    table: Table
    said: str = ""
    wide: bool = False
    options: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """A table to be read; of very long ones the page shows the first rows and has all of them as CSV. ``folded`` opens at a click."""

    title: str
    table: Table
    folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A genotype's cells, drawn."""

    title: str
    genotype: Genotype


@dataclass(frozen=True)
class Section:
    """A heading and what is under it, in this order: notes, facts (name and value), figures, listings, pictures, texts (title and text)."""

    title: str
    notes: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    figures: tuple[Figure, ...] = ()
    listings: tuple[Listing, ...] = ()
    pictures: tuple[Picture, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Report:
    """A page: its title, what it is a report of, the figures that matter most (name and value), and its sections."""

    title: str
    kind: str
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
