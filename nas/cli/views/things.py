"""The tables of ``nas list runs``: searches, trainings and comparisons, each with how far it is and how it stands. No torch."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from nas.api.things import Kind, Thing, known_things, things_in
from nas.cli.views.run import shown_accuracy, yardstick_at
from nas.cli.views.writing import width
from nas.comparisons.folder import CompareFolder
from nas.data.settings import data_words
from nas.errors import UserError
from nas.runs.config import SearchConfig
from nas.runs.folder import RunFolder
from nas.runs.standings import best_known
from nas.runs.state import RunState
from nas.tools.words import age, printable
from nas.training.folder import TrainFolder
from search_spaces.genotype import read_genotype

COLUMNS: dict[Kind, tuple[str, ...]] = {
    "search": ("run", "space", "controller", "data", "trained", "believed", "active", "state"),
    "training": ("training", "network", "data", "epochs", "test", "active", "state"),
    "comparison": ("comparison", "data", "members", "best", "active", "state"),
}
UNNEEDED = ("space", "controller", "network", "data", "active")
"""Columns that are left out on a narrow terminal, the first one first: the name mostly says what they do."""
NOTE_WIDTH = 24
"""Columns that a note is given before it takes another line."""
NOTHING = "none yet: `nas search` or `nas train` makes one; name the folder of others, or set NAS_RUNS"
"""Below an empty table."""
NUMBERS = ("trained", "believed", "epochs", "test", "members")
TITLES: dict[Kind, str] = {"search": "searches", "training": "trainings", "comparison": "comparisons"}


def tables(places: Sequence[Path] = ()) -> Iterator[Table]:
    """A table of each kind of thing that there is: in these folders, else all that is found without naming one.

    Raises:
        RunError: a folder does not exist.
    """
    if not places:
        found = [(thing.path.name, thing) for thing in known_things()]
    else:
        found = [(str(thing.path), thing) for place in places for thing in things_in(place)]
    found = sorted(found, key=lambda named: named[1].changed)
    for kind in COLUMNS:
        rows = [[name, *_cells(thing)] for name, thing in found if thing.kind == kind]
        if rows or (kind == "search" and not found):
            where = f" in {', '.join(map(str, places))}" if places else ""
            notes = [thing.label.note for _, thing in found if thing.kind == kind]
            table = fitted(f"{TITLES[kind]}{where}", COLUMNS[kind], rows, UNNEEDED, notes)
            table.caption, table.caption_justify = None if rows else NOTHING, "left"
            yield table


def _cells(thing: Thing) -> list[str]:
    """All cells but the name's; of what is damaged the last one says why."""
    try:
        *rest, state = _ROWS[thing.kind](thing.folder)
    except (UserError, OSError) as problem:
        return [*[""] * (len(COLUMNS[thing.kind]) - 2), f"damaged: {problem}"]
    return [*rest, age(time.time() - thing.changed), state]


def _search(folder: RunFolder) -> list[str]:
    config, state = folder.config(), folder.state()
    believed = shown_accuracy(_believed(folder, config, state), yardstick_at(state, state.ladder.reached()))
    said = [config.space, config.controller.name, "a formula" if config.evaluator == "synthetic" else data_words(config.data)]
    return [*said, f"{state.spent}/{state.budget}", believed, folder.condition(state)]


def _believed(folder: RunFolder, config: SearchConfig, state: RunState) -> float | None:
    """What is believed of the best cell: kept at a session's end, since to believe again takes a second a run; else believed anew."""
    if state.closed is None:
        head = best_known(folder.space(config), state).head(1)
        return head[0][1] if head else None
    best = folder.best_folder / "1.yaml"
    origin = read_genotype(best).provenance if best.is_file() else None
    return None if origin is None else origin.reward


def _training(folder: TrainFolder) -> list[str]:
    config, result = folder.config(), folder.result() or {}
    test = result.get("test")
    top1 = f"{100 * test['top1']:.2f} %" if isinstance(test, dict) and isinstance(test.get("top1"), float) else "–"
    name = str(config.skeleton.get("name", ""))
    return [name, data_words(config.data), f"{len(folder.history())}/{config.recipe.epochs}", top1, folder.condition()]


def _comparison(folder: CompareFolder) -> list[str]:
    from nas.comparisons.networks import read_rows

    rows, base = read_rows(folder), folder.document()["training"]
    done = [row for row in rows if row.test]
    best = max(done, key=lambda row: fmean(row.test), default=None)
    data = base.get("data", {})
    named = Path(str(data.get("root"))).name if data.get("name") == "folder" else str(data.get("name", ""))
    return [
        named,
        f"{sum(not row.unfinished for row in rows)}/{len(folder.labels())}",
        "–" if best is None else f"{best.label} {100 * best.mean:.2f} %",
        folder.condition(),
    ]


_ROWS: dict[Kind, Callable[..., list[str]]] = {"search": _search, "training": _training, "comparison": _comparison}


LONGEST_CELL = 30
"""Columns of the terminal that a cell takes at most, the name excepted: why something is damaged goes on in the next line."""


def fitted(title: str, columns: Sequence[str], rows: list[list[str]], unneeded: Sequence[str], notes: Sequence[str]) -> Table:
    """A table with all columns where there is room; on a narrow terminal without some, rather than with broken words.

    A row's note stands below its first cell, in as many lines as that takes.
    """
    shown = list(columns)
    for_notes = min(NOTE_WIDTH, max((len(note) + 2 for note in notes), default=0))
    for name in unneeded:
        if name in shown and _room([shown, *rows]) < max(for_notes, _longest([shown, *rows], 0)):
            place = shown.index(name)
            shown, rows = _without(shown, place), [_without(row, place) for row in rows]
    table = Table(title=title, title_justify="left")
    table.add_column(shown[0], overflow="fold", max_width=max(1, _room([shown, *rows])))
    for name in shown[1:]:
        justify: Literal["left", "right"] = "right" if name in NUMBERS else "left"
        table.add_column(name, overflow="fold", justify=justify, max_width=LONGEST_CELL)
    for (first, *rest), note in zip(rows, notes, strict=True):
        cell = Text(printable(first))
        if note:
            cell.append(f"\n  {printable(note)}", style="italic")
        table.add_row(cell, *(Text(printable(text)) for text in rest))
    return table


def _room(rows: Sequence[Sequence[str]]) -> int:
    """Columns of the terminal that the other cells and the lines of a table leave for its first cells."""
    others = [min(LONGEST_CELL, _longest(rows, place)) for place in range(1, len(rows[0]))]
    return width() - sum(others) - 3 * len(rows[0]) - 1


def _longest(rows: Sequence[Sequence[str]], place: int) -> int:
    return max(cell_len(row[place]) for row in rows)


def _without(row: list[str], place: int) -> list[str]:
    return [*row[:place], *row[place + 1 :]]
