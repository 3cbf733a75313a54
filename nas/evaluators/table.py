"""Tables of architectures that somebody has trained already: read from any CSV, and offered as an evaluator. No torch, no ray."""

import csv
import gzip
import hashlib
import io
import json
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from controllers.controller import Completed, Failed, random_for
from nas.errors import DataError
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.evaluators.settings import TableSettings
from search_spaces.errors import GenotypeError
from search_spaces.genotype import Genotype, from_document
from search_spaces.space import Actions, SearchSpace, check_actions

Floats = NDArray[np.float64]

MAX_BYTES = 1 << 30
"""Largest table read, unpacked."""


@runtime_checkable
class TextSpace(Protocol):
    """A search space with a notation of its own for architectures, as NAS-Bench-201 has."""

    def read_text(self, text: str) -> Actions:
        """Actions of an architecture in the space's notation. Raises GenotypeError."""
        ...


@dataclass(frozen=True)
class Columns:
    """Which column of a table means what. Accuracies may be shares or per cent: a column with a value above 1 is per cent.

    ``rewards`` are the validation accuracies of one or more trainings of each architecture; a cell may be empty where
    there are several. ``report`` is what is reported about the best by reward, say the test accuracy. ``seconds`` is what
    a training took. ``fidelities`` maps numbers of epochs to the validation accuracies after them, for reports on the way.
    """

    architecture: str
    rewards: tuple[str, ...]
    report: str | None = None
    seconds: str | None = None
    fidelities: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """R architectures of a space and what is known of them; accuracies are shares in [0, 1]."""

    space: SearchSpace
    actions: tuple[Actions, ...]
    rewards: Floats
    """[R, number of trainings], NaN where there is none."""
    report: Floats | None = None
    """[R]"""
    seconds: Floats | None = None
    """[R]"""
    fidelities: Mapping[int, Floats] = field(default_factory=dict)
    """[R] for every number of epochs."""

    def __len__(self) -> int:
        return len(self.actions)

    @cached_property
    def rows(self) -> dict[Actions, int]:
        """The row of every action sequence listed."""
        return {actions: row for row, actions in enumerate(self.actions)}

    @cached_property
    def _canonical_rows(self) -> dict[str, int]:
        return {self.space.canonical(self.space.decode(actions)): row for actions, row in reversed(self.rows.items())}

    def row(self, actions: Actions) -> int | None:
        """The row of the architecture, else the first that is the same network, else None."""
        exact = self.rows.get(actions)
        return exact if exact is not None else self._canonical_rows.get(self.space.canonical(self.space.decode(actions)))

    def one_training(self, seed: int) -> Floats:
        """One of the trainings of every architecture, drawn by the seed: the reward [R] that a search would really see."""
        available = ~np.isnan(self.rewards)
        draw = (np.random.default_rng(seed).random(len(self)) * available.sum(1)).astype(int)
        column = (available.cumsum(1) > draw[:, None]).argmax(1)
        chosen: Floats = self.rewards[np.arange(len(self)), column]
        return chosen

    def mean_reward(self) -> Floats:
        """The mean over the trainings of every architecture [R]."""
        mean: Floats = np.nanmean(self.rewards, axis=1)
        return mean


def read_table(paths: Sequence[str | Path], space: SearchSpace, columns: Columns, seconds_factor: float = 1.0) -> Table:
    """Read a table from one or more CSV files (gzip if they end in .gz) that hold the same rows in the same order.

    An architecture is written in the space's own notation if it has one, else as a genotype in JSON, else as the actions:
    integers separated by spaces or commas, or one digit a decision. Durations are multiplied by ``seconds_factor``.

    Raises:
        DataError: a file, a column, or a value is missing or wrong; the message names the row.
    """
    data: dict[str, list[str]] = {}
    for path in paths:
        for name, values in _read_csv(Path(path), str(path)).items():
            data.setdefault(name, values)
    with _named(", ".join(map(str, paths))):
        return _table(data, space, columns, seconds_factor)


@contextmanager
def _named(called: str) -> Iterator[None]:
    """Say of what is wrong in a table which table that is."""
    try:
        yield
    except DataError as problem:
        raise DataError(f"{called}: {problem}") from None


def _table(data: Mapping[str, Sequence[str]], space: SearchSpace, columns: Columns, seconds_factor: float) -> Table:
    """The table of what is in its columns. Raises DataError."""
    lengths = {len(values) for values in data.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise DataError(f"must have the same number of rows, at least one, but got {sorted(lengths)}")

    def texts(name: str) -> Sequence[str]:
        if name not in data:
            raise DataError(f"no column {name!r}; columns: {', '.join(data)}")
        return data[name]

    if not columns.rewards:
        raise DataError("a table needs at least one reward column")
    rewards = np.stack([_numbers(texts(name), name, empty=len(columns.rewards) > 1) for name in columns.rewards], axis=1)
    missing = np.isnan(rewards).all(1)
    if missing.any():
        raise DataError(f"row {int(missing.argmax()) + 2}: no value in any of the columns {', '.join(columns.rewards)}")
    table = Table(
        space=space,
        actions=tuple(_architecture(space, text, row) for row, text in enumerate(texts(columns.architecture), start=2)),
        rewards=_shares(rewards),
        report=None if columns.report is None else _shares(_numbers(texts(columns.report), columns.report)),
        seconds=None if columns.seconds is None else seconds_factor * _numbers(texts(columns.seconds), columns.seconds),
        fidelities={epochs: _shares(_numbers(texts(name), name)) for epochs, name in sorted(columns.fidelities.items())},
    )
    if len(table.rows) != len(table):
        first = dict(zip(reversed(table.actions), reversed(range(len(table))), strict=True))
        repeated = next(row for row, actions in enumerate(table.actions) if first[actions] != row)
        raise DataError(f"row {repeated + 2}: the architecture {texts(columns.architecture)[repeated][:200]!r} is listed twice")
    return table


def read_trainings(path: str | Path, space: SearchSpace, called: str | None = None) -> list[tuple[Actions, float]]:
    """The children of a table of trials, as ``nas export RUN --format csv`` writes it, that were trained to the end: actions and rewards.

    Needed are a column ``reward`` and one of architectures: ``genotype``, ``actions`` or ``arch``, written as ``read_table`` takes
    them. Where there is one of ``rung``, ``outcome``, ``card``, ``origin`` or ``repeats``, only the search's own children count, on its
    first rung. ``called`` is what messages call it; None: its path.

    Raises:
        DataError: the file, a column, or a value is missing or wrong; the message names the row.
    """
    called = called or str(path)
    data = _read_csv(Path(path), called)
    with _named(called):
        return _trainings(data, space)


def _trainings(data: Mapping[str, Sequence[str]], space: SearchSpace) -> list[tuple[Actions, float]]:
    """Of a table of trials what ``read_trainings`` says. Raises DataError."""
    written = next((name for name in ("genotype", "actions", "arch") if name in data), None)
    if written is None or "reward" not in data:
        raise DataError(f"needs a column reward and one of genotype, actions or arch, but has {', '.join(data)}")
    chosen = [row for row, reward in enumerate(data["reward"]) if reward.strip() and _of_search(data, row)]
    if not chosen:
        return []
    rewards = _shares(_numbers(data["reward"], "reward", empty=True))
    return [(_architecture(space, data[written][row], row + 2), float(rewards[row])) for row in chosen]


def _of_search(data: Mapping[str, Sequence[str]], row: int) -> bool:
    """Whether a row is of a child that was proposed and trained to the end on the first rung."""
    said = {name: data[name][row].strip() for name in ("rung", "outcome", "card", "origin", "repeats") if name in data}
    told = said.get("rung", "") in ("", "0") and said.get("outcome", "completed") == "completed"
    return told and not any(said.get(name) for name in ("card", "origin", "repeats"))


class TableEvaluator:
    """Answers from a table at once, reporting at every fidelity it has. The seed draws one training where there are several.

    Metrics: ``report`` and ``seconds``, where the table has them. An architecture that is not in the table fails.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    @classmethod
    def from_settings(cls, settings: TableSettings, space: SearchSpace) -> "TableEvaluator":
        """The evaluator that a search with ``evaluator=table`` asks for. Raises DataError where the table cannot be used."""
        rewards = (settings.column,) if isinstance(settings.column, str) else tuple(settings.column)
        columns = Columns(settings.architecture, rewards, settings.report, settings.seconds, settings.fidelities)
        return cls(read_table([Path(path) for path in (settings.path, *settings.more)], space, columns))

    def evaluate(
        self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
    ) -> Generator[Report, None, Evaluation]:
        """Report and return as a training child would; see ``nas.evaluators.evaluator.Evaluator``."""
        table = self.table
        row = table.row(table.space.encode(genotype))
        if row is None:
            return Evaluation(Failed("exception", "the table has no such architecture"))
        metrics: dict[str, float] = {}
        if table.seconds is not None:
            metrics["seconds"] = float(table.seconds[row])
        if time_limit is not None and metrics.get("seconds", 0.0) > time_limit:
            return Evaluation(Failed("time_limit", f"{metrics['seconds']:g} s in the table, more than {time_limit:g}"), metrics)
        if table.report is not None:
            metrics["report"] = float(table.report[row])
        for epochs, values in table.fidelities.items():
            yield Report(epochs, float(values[row]))
        trainings = table.rewards[row][~np.isnan(table.rewards[row])]
        return Evaluation(Completed(float(trainings[random_for(seed, "training").randrange(len(trainings))])), metrics)


def checksum(settings: TableSettings) -> str:
    """64 bits that tell whether two searches look up the same: files and columns. Raises DataError where a file cannot be read."""
    digest = hashlib.blake2b(settings.model_dump_json(exclude={"path", "more"}).encode(), digest_size=8)
    for path in (settings.path, *settings.more):
        try:
            with Path(path).open("rb") as file:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
        except OSError as problem:
            raise DataError(f"{path}: cannot be read: {problem.strerror or problem}") from None
    return digest.hexdigest()


def _read_csv(path: Path, called: str) -> dict[str, list[str]]:
    try:
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as lines:
            content = lines.read(MAX_BYTES + 1)
    except (OSError, EOFError) as problem:
        raise DataError(f"{called}: cannot be read: {getattr(problem, 'strerror', None) or problem}") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{called}: a table must be at most {MAX_BYTES:,} bytes")
    try:
        header, *rows = [*csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)] or [[]]
    except (UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{called}: not a CSV file with a header: {problem}") from None
    if not any(name.strip() for name in header):
        raise DataError(f"{called}: not a CSV file with a header: its first line is empty")
    if len(header) == 1 and any(other in header[0] for other in ";\t"):
        raise DataError(f"{called}: not a CSV file with commas between its columns: its first line is {header[0][:80]!r}")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise DataError(f"{called}: row {number}: {len(header)} values expected, as in the header, but got {len(row)}")
    return {name: [row[i] for row in rows] for i, name in enumerate(header)}


def _numbers(texts: Sequence[str], name: str, empty: bool = False) -> Floats:
    numbers = np.empty(len(texts))
    for i, text in enumerate(texts):
        try:
            numbers[i] = math.nan if empty and not text.strip() else float(text)
        except ValueError:
            numbers[i] = math.inf
        if math.isinf(numbers[i]) or (math.isnan(numbers[i]) and text.strip()) or numbers[i] < 0:
            raise DataError(f"row {i + 2}: {name!r} must be a number of at least 0, but got {text[:80]!r}")
    return numbers


def _shares(values: Floats) -> Floats:
    """Per cent become shares."""
    greatest = np.nanmax(values)
    if greatest > 100:
        raise DataError(f"an accuracy must be a share or per cent, but the table has {greatest:g}")
    shares: Floats = values / 100 if greatest > 1 else values
    return shares


def _architecture(space: SearchSpace, text: str, row: int) -> Actions:
    try:
        if text.lstrip().startswith("{"):
            return space.encode(from_document(json.loads(text)))
        words = text.replace(",", " ").split()
        if len(words) == 1 and len(space.decisions) > 1 and words[0].isdecimal():
            words = list(words[0])
        if all(word.isdecimal() for word in words):
            actions = tuple(int(word) for word in words)
            check_actions(space.decisions, actions)
            return actions
        if isinstance(space, TextSpace):
            return space.read_text(text)
    except (GenotypeError, json.JSONDecodeError, RecursionError) as problem:
        raise DataError(f"row {row}: {problem}") from None
    raise DataError(f"row {row}: not an architecture of space {space.name!r} (JSON genotype, or actions): {text[:200]!r}")
