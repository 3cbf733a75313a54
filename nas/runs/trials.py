"""One trial as the ledger tells it, and the collection of all: a few hundred bytes for each that has ended, so that many are no burden."""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, overload

from controllers.controller import Completed, Failed, Outcome, Proposal, Stopped
from nas.evaluators.evaluator import Evaluation, Report


@dataclass(frozen=True, slots=True)
class Size:
    """The width F that a child's network has at every rung, None where the fidelity says it; and what its target network costs."""

    filters: float | None = None
    costs: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Trial:
    """Everything the ledger says of one trial."""

    proposal: Proposal
    key: str | None = None
    """What all proposals of the same cells have in common, where it was recorded."""
    attempts: int = 0
    setbacks: Counter[str] = field(default_factory=Counter)
    """Attempts that came to nothing, by reason."""
    reports: list[Report] = field(default_factory=list)
    checkpoint: tuple[int, str] | None = None
    """Epoch and checksum of the last state kept, where an attempt can go on from it; None once the trial has ended."""
    evaluation: Evaluation | None = None
    repeats: int | None = None
    started: float | None = None
    ended: float | None = None
    origin: int | None = None
    """The trial whose cells are trained here at a higher rung, or looked at a second time."""
    replicate: int = 0
    """Which training of these cells at this rung it is, from 0: each has a seed of its own."""
    card: str | None = None
    """The control card that is trained here; ``RunState.cards`` has its genotype."""
    warm: str | None = None
    """The genotype that a person began the search with, where this is one."""
    size: Size | None = None
    """Its width and what its network costs, where the search decides on them before it trains a child."""

    @property
    def rung(self) -> int:
        """The rung of the ladder: 0 is the search's own."""
        return self.proposal.rung

    @property
    def searched(self) -> bool:
        """Whether it is one of the search's own children: on rung 0, no control card, and no second look."""
        return self.rung == 0 and self.card is None and self.origin is None

    @property
    def second_look(self) -> bool:
        """Whether it trains the cells of one of the search's own children once more, as that was trained, with another seed."""
        return self.rung == 0 and self.origin is not None

    @property
    def number(self) -> int:
        """The trial's number, from 0 in the order of asking."""
        return self.proposal.trial

    @property
    def lost(self) -> int:
        """Attempts that ended with their worker's death."""
        return self.setbacks["worker_lost"]

    @property
    def spends_budget(self) -> bool:
        """Whether the trial counts as one of the budget: a child of the search, trained to an end, not lost to a failing machine."""
        if not self.searched or self.evaluation is None or self.repeats is not None:
            return False
        outcome = self.evaluation.outcome
        return not (isinstance(outcome, Failed) and outcome.reason == "worker_lost")

    @property
    def reward(self) -> float | None:
        """The reward of a completed trial, else None."""
        outcome = self.evaluation.outcome if self.evaluation else None
        return outcome.reward if isinstance(outcome, Completed) else None


class Trials(Mapping[int, Trial]):
    """All trials by number, from 0 in the order of asking.

    Those that have not ended are the objects that records are applied to. One that has ended is packed, and an equal object is made of it
    whenever it is looked at: a search needs little of what is past, but reports do, and 200,000 trials as objects take over a gigabyte.
    """

    def __init__(self) -> None:
        self._open: dict[int, Trial] = {}
        self._shapes: list[_Shape | None] = []
        self._contents: list[bytes] = []
        self._known: dict[_Shape, _Shape] = {}

    def open(self, trial: Trial) -> None:
        """Take in the next trial."""
        assert trial.number == len(self._shapes)
        self._open[trial.number] = trial
        self._shapes.append(None)
        self._contents.append(b"")

    def end(self, number: int) -> None:
        """Pack a trial that has ended: nothing about it changes any more."""
        shape, self._contents[number] = _pack(self._open.pop(number))
        self._shapes[number] = self._known.setdefault(shape, shape)

    def __getitem__(self, number: int) -> Trial:
        shape = self._shapes[number] if 0 <= number < len(self) else None
        return self._open[number] if shape is None else _unpack(number, shape, self._contents[number])

    def __len__(self) -> int:
        return len(self._shapes)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __reversed__(self) -> Iterator[int]:
        return reversed(range(len(self)))


class Chosen(Sequence[Trial]):
    """Some trials in some order, each made when it is looked at."""

    def __init__(self, trials: Trials, numbers: Sequence[int]) -> None:
        self._trials, self.numbers = trials, numbers

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> list[Trial]: ...
    def __getitem__(self, index: int | slice) -> Trial | list[Trial]:
        if isinstance(index, slice):
            return [self._trials[number] for number in self.numbers[index]]
        return self._trials[self.numbers[index]]

    def __len__(self) -> int:
        return len(self.numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Chosen | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class _Shape(NamedTuple):
    """All of a trial but its numbers: thousands of trials have the same one."""

    key: int
    """Its length in bytes; -1 for none."""
    actions: tuple[str, int]
    """Type code and length of an array, as for ``log_probs``."""
    log_probs: tuple[str, int]
    setbacks: tuple[tuple[str, int], ...]
    reports: tuple[tuple[str, ...], ...]
    """Names of the metrics of every report."""
    outcome: tuple[str, ...]
    metrics: tuple[str, ...]
    absent: tuple[bool, ...]
    """Which of repeats, started, origin and the width are None."""
    place: tuple[int, int, str | None, str | None]
    """Rung, replicate, control card, warm start."""
    costs: tuple[str, ...] | None
    """Names of what is known of the network's cost; None without a size."""


def _pack(trial: Trial) -> tuple[_Shape, bytes]:
    assert trial.evaluation is not None and trial.ended is not None
    proposal, outcome, metrics = trial.proposal, trial.evaluation.outcome, trial.evaluation.metrics
    optional = trial.repeats, trial.started, trial.origin, trial.size.filters if trial.size is not None else None
    numbers: list[float] = [trial.attempts, proposal.policy_version, trial.ended, *(value for value in optional if value is not None)]
    for report in trial.reports:
        numbers += (report.epoch, report.reward, *report.metrics.values())
    words, values = _outcome_parts(outcome)
    numbers += (*values, *metrics.values(), *(trial.size.costs.values() if trial.size is not None else ()))
    key = b"" if trial.key is None else trial.key.encode()
    actions, log_probs = _smallest("B", "L", proposal.actions), _smallest("f", "d", proposal.log_probs)
    shape = _Shape(
        -1 if trial.key is None else len(key),
        (actions.typecode, len(actions)),
        (log_probs.typecode, len(log_probs)),
        tuple(trial.setbacks.items()),
        tuple(tuple(report.metrics) for report in trial.reports),
        words,
        tuple(metrics),
        tuple(value is None for value in optional),
        (trial.rung, trial.replicate, trial.card, trial.warm),
        None if trial.size is None else tuple(trial.size.costs),
    )
    return shape, b"".join((key, actions.tobytes(), log_probs.tobytes(), array("d", numbers).tobytes()))


def _unpack(number: int, shape: _Shape, content: bytes) -> Trial:
    place = max(shape.key, 0)
    key = None if shape.key < 0 else content[:place].decode()
    arrays = []
    for code, length in (shape.actions, shape.log_probs):
        end = place + array(code).itemsize * length
        arrays.append(array(code, content[place:end]).tolist())
        place = end
    numbers = iter(array("d", content[place:]))
    attempts, version, ended = int(next(numbers)), int(next(numbers)), next(numbers)
    repeats, started, origin, filters = (None if absent else next(numbers) for absent in shape.absent)
    rung, replicate, card, warm = shape.place
    reports = [Report(int(next(numbers)), next(numbers), {name: next(numbers) for name in names}) for names in shape.reports]
    outcome = _outcome_from(shape.outcome, numbers)
    evaluation = Evaluation(outcome, {name: next(numbers) for name in shape.metrics})
    proposal = Proposal(number, tuple(arrays[0]), tuple(arrays[1]), version, rung)
    whole = (None if value is None else int(value) for value in (repeats, origin))
    found = Trial(proposal, key, attempts, Counter(dict(shape.setbacks)), reports, None, evaluation, started=started, ended=ended)
    found.repeats, found.origin = whole
    found.replicate, found.card, found.warm = replicate, card, warm
    found.size = None if shape.costs is None else Size(filters, {name: next(numbers) for name in shape.costs})
    return found


def _smallest(small: str, large: str, values: Sequence[float]) -> "array[float]":
    """The values as an array, of the small type where that has all of them exactly."""
    try:
        found: array[float] = array(small, values)
        if found.tolist() == list(values):
            return found
    except OverflowError:
        pass
    return array(large, values)


def _outcome_parts(outcome: Outcome) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """An outcome's words and numbers."""
    match outcome:
        case Completed(reward):
            return ("completed",), (reward,)
        case Stopped(rung, reward):
            return ("stopped",), (rung, reward)
        case Failed(reason, detail):
            return ("failed", reason, detail), ()


def _outcome_from(words: tuple[str, ...], numbers: Iterator[float]) -> Outcome:
    if words[0] == "failed":
        return Failed(*words[1:])
    return Completed(next(numbers)) if words[0] == "completed" else Stopped(int(next(numbers)), next(numbers))
