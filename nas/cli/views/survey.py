"""What ``nas data`` prints of a data set: its facts, its classes, and what a person should know."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas.data.names import printable
from nas.data.survey import Extent, Survey

MOST_CLASSES = 12
"""Longer tables show the largest and the smallest classes."""
NAMED = 5
"""Unreadable files that the notes name already."""
MOST_UNREADABLE = 20


def print_survey(console: Console, found: Survey) -> None:
    """Print it for the console's width."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    for name, text in _facts(found):
        facts.add_row(name, Text(text))
    console.print(facts)
    console.print(_classes(found))
    if len(found.unreadable) > NAMED:
        for name, reason in list(found.unreadable.items())[:MOST_UNREADABLE]:
            console.print(f"unreadable: {printable(name)}: {reason}", highlight=False, markup=False)
    for warning in found.warnings:
        line = Table.grid(padding=(0, 1))
        line.add_column(no_wrap=True)
        line.add_column(overflow="fold")
        line.add_row("note:", Text(warning))
        console.print(line)


def _facts(found: Survey) -> Iterator[tuple[str, str]]:
    dataset = found.dataset
    yield "data set", printable(dataset.name)
    if dataset.layout:
        yield "layout", dataset.layout
    yield "images", ", ".join(f"{sum(counts):,} {part}" for part, counts in found.counts.items())
    uneven = f"; the largest has {found.imbalance:.3g} times the images of the smallest" if found.imbalance > 1.005 else ", equally large"
    yield "classes", f"{dataset.classes:,}{uneven}"
    yield "shorter side", _extent(found.short)
    yield "longer side", _extent(found.long)
    yield "modes", ", ".join(f"{number:,} {mode}" for mode, number in found.modes.items())
    yield "seen as", "greyscale" if dataset.channels == 1 else "colour"


def _extent(lengths: Extent) -> str:
    if lengths.least == lengths.most:
        return f"{lengths.least} pixels"
    return f"{lengths.least} to {lengths.most} pixels, median {lengths.median}"


def _classes(found: Survey) -> Table:
    """Classes with their images in every part: all, or the largest and the smallest."""
    table = Table("class", box=None, pad_edge=False, header_style="bold")
    for part in found.counts:
        table.add_column(part, justify="right")
    totals = [sum(numbers) for numbers in zip(*found.counts.values(), strict=True)]
    order = list(range(len(totals)))
    if len(order) > MOST_CLASSES:
        order.sort(key=lambda label: -totals[label])
    half = MOST_CLASSES // 2
    for place, label in enumerate(order):
        if len(order) <= MOST_CLASSES or place < half or place >= len(order) - half:
            table.add_row(Text(printable(found.dataset.class_names[label])), *(f"{counts[label]:,}" for counts in found.counts.values()))
        elif place == half:
            table.add_row(f"… {len(order) - MOST_CLASSES:,} more …", style="dim")
    return table
