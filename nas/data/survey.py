"""What a data set holds, looked at before anybody trains: classes, sizes, copies, and what a person should know. No torch."""

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from nas.data.dataset import ArrayPart, Dataset, Part
from nas.data.image_index import CheckedFile, Progress, listed_files
from nas.data.names import printable, some
from nas.data.pixels import digest_of
from nas.data.registry import load_dataset
from nas.data.settings import DataSettings
from nas.data.split import Split, split

IMBALANCED = 10
"""A class that has this many times the images of another is worth a word."""


@dataclass(frozen=True)
class Extent:
    """The smallest, the median and the largest of some lengths in pixels."""

    least: int
    median: int
    most: int


@dataclass(frozen=True)
class Survey:
    """A data set that can be used.

    ``parts`` are those that every command meets. ``counts`` has the images of each class by part; ``short`` and ``long`` are the
    images' sides; ``modes`` Pillow's modes with their numbers; ``unreadable`` files with the reason; ``copies`` how many images are
    copies of others in the same or, by two parts' names, in another of the data set's own parts; ``contradictions`` images that lie in two
    classes, with their classes. ``warnings`` say all of that for a person, where it matters.
    """

    dataset: Dataset = field(repr=False)
    parts: Split = field(repr=False)
    counts: dict[str, tuple[int, ...]]
    short: Extent
    long: Extent
    modes: dict[str, int]
    unreadable: dict[str, str]
    copies: dict[str, int]
    contradictions: tuple[tuple[str, ...], ...]
    imbalance: float
    warnings: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """The same as plain data, for JSON."""
        return {
            "name": self.dataset.name,
            "layout": self.dataset.layout,
            "channels": self.dataset.channels,
            "images": {part: sum(counts) for part, counts in self.counts.items()},
            "classes": {
                name: {part: counts[label] for part, counts in self.counts.items()} for label, name in enumerate(self.dataset.class_names)
            },
            "short_side": vars(self.short),
            "long_side": vars(self.long),
            "modes": self.modes,
            "unreadable": self.unreadable,
            "copies": self.copies,
            "contradictions": [list(names) for names in self.contradictions],
            "imbalance": self.imbalance,
            "warnings": list(self.warnings),
        }


def survey(settings: DataSettings, progress: Progress | None = None) -> Survey:
    """Read a data set whole and look at it.

    Raises:
        DataError: it cannot be used.
    """
    with tempfile.TemporaryDirectory() as scratch:
        index_file = Path(scratch) / "images.json"
        dataset = load_dataset(settings, index_file, progress)
        files = listed_files(index_file) if index_file.is_file() else {}
    parts = split(dataset, settings)
    counts = {
        name: tuple(np.bincount(part.labels, minlength=dataset.classes).tolist())
        for name, part in (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
    }
    short, long, modes = _seen(dataset, files)
    copies, contradictions = _copies(dataset)
    totals = [sum(numbers) for numbers in zip(*counts.values(), strict=True)]
    warnings = (
        *(*dataset.notes, *parts.notes),
        *_of_copies(copies, contradictions),
        *_of_balance(dataset.class_names, totals),
    )
    unreadable = {name: checked.problem for name, checked in files.items() if checked.problem}
    imbalance = max(totals) / max(1, min(totals))
    return Survey(dataset, parts, counts, short, long, modes, unreadable, copies, contradictions, imbalance, warnings)


def _seen(dataset: Dataset, files: dict[str, CheckedFile]) -> tuple[Extent, Extent, dict[str, int]]:
    """Sides and modes, of files as they are, turned upright."""
    readable = [checked for checked in files.values() if not checked.problem]
    if not readable:
        number = sum(len(part) for _, part in _own_parts(dataset))
        side = Extent(dataset.side, dataset.side, dataset.side)
        return side, side, {"L" if dataset.channels == 1 else "RGB": number}
    modes = Counter(checked.mode for checked in readable)
    sides = ([checked.side for checked in readable], [checked.long_side for checked in readable])
    short, long = (Extent(min(lengths), int(np.median(lengths)), max(lengths)) for lengths in sides)
    return short, long, dict(modes.most_common())


def _own_parts(dataset: Dataset) -> list[tuple[str, Part]]:
    """Those that the data set brings."""
    brought = (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    return [(name, part) for name, part in brought if part is not None]


def _copies(dataset: Dataset) -> tuple[dict[str, int], tuple[tuple[str, ...], ...]]:
    """How many images are copies within each part and across two of them; and those that lie in several classes."""
    digests: dict[str, list[str]] = {}
    places: dict[str, dict[int, str]] = {}
    for role, part in _own_parts(dataset):
        digests[role] = [digest_of(image.tobytes()) for image in part.images] if isinstance(part, ArrayPart) else list(part.digests)
        names = [f"{role} image {i}" for i in range(len(part))] if isinstance(part, ArrayPart) else part.names
        for digest, label, name in zip(digests[role], part.labels.tolist(), names, strict=True):
            places.setdefault(digest, {}).setdefault(label, name)
    copies = {role: len(found) - len(set(found)) for role, found in digests.items()}
    for one, other in combinations(digests, 2):
        known = set(digests[other])
        copies[f"{one}, {other}"] = sum(digest in known for digest in digests[one])
    contradictions = tuple(tuple(found.values()) for found in places.values() if len(found) > 1)
    return {parts: number for parts, number in copies.items() if number}, contradictions


def _of_copies(copies: dict[str, int], contradictions: tuple[tuple[str, ...], ...]) -> list[str]:
    within = [f"{number:,} of {parts}" for parts, number in copies.items() if "," not in parts]
    across = [f"{number:,} ({parts})" for parts, number in copies.items() if "," in parts]
    lines = [f"copies of other images of the same part: {', '.join(within)}"] if within else []
    lines += [f"copies across parts: {', '.join(across)}"] if across else []
    if contradictions:
        pairs = [" = ".join(map(printable, names)) for names in contradictions]
        lines.append(f"the same image in more than one class, which cannot be learned: {some(pairs)}")
    return lines


def _of_balance(names: tuple[str, ...], totals: list[int]) -> list[str]:
    largest, smallest = int(np.argmax(totals)), int(np.argmin(totals))
    if totals[largest] < IMBALANCED * totals[smallest]:
        return []
    return [
        f"{printable(names[largest])} has {totals[largest]:,} images and {printable(names[smallest])} {totals[smallest]:,}: "
        "accuracy says most about the large classes"
    ]
