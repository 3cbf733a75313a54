"""More than accuracy as the aim of a search: what the controller is told of a child, and the Pareto front that is the result. No torch."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from controllers.controller import Failed, Outcome
from nas.networks.matching import FIRST, WEIGHT, Objective
from nas.runs.state import RunState
from nas.runs.trials import Trial


class Scalarised:
    """What a controller is told in an accuracy's place. A function of the outcomes told before, in their order: it is made again on resume.

    The ledger has the accuracies themselves.
    """

    def __init__(self, objective: Objective, state: RunState) -> None:
        self.objective, self._state = objective, state
        self._first: list[float] = []

    def outcome(self, trial: Trial) -> Outcome:
        """What to tell of a trial that has ended; every one that is told must pass here once, in order."""
        assert trial.evaluation is not None
        outcome, cost = trial.evaluation.outcome, cost_of(self._state, trial, self.objective.quantity)
        if isinstance(outcome, Failed) or cost is None or cost <= 0:
            return outcome
        if trial.searched and trial.repeats is None and len(self._first) < FIRST:
            self._first.append(cost)
        target = self.objective.target or (statistics.median(self._first) if self._first else cost)
        return replace(outcome, reward=min(1.0, outcome.reward * (cost / target) ** WEIGHT))


def cost_of(state: RunState, trial: Trial, quantity: str) -> float | None:
    """A cost of a trial's cells: of its target network, else as measured when the search trained them; None where it is not known."""
    origin = trial if trial.origin is None else state.trials[trial.origin]
    if origin.size is not None and quantity in origin.size.costs:
        return origin.size.costs[quantity]
    if origin.repeats is not None:
        origin = state.trials[origin.repeats]
    return None if origin.evaluation is None else origin.evaluation.metrics.get(quantity)


@dataclass(frozen=True, slots=True)
class Point:
    """A completed trial's accuracy, as it is known best, and cost."""

    trial: int
    accuracy: float
    cost: float


def front(points: Iterable[Point]) -> list[Point]:
    """The points that no other one beats in accuracy or cost without being worse in the other, the cheapest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.accuracy, point.trial)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept


def hypervolume(points: Sequence[Point], dearest: float) -> float:
    """The share of the rectangle from cost 0 to ``dearest`` and from accuracy 0 to 1 that a front dominates: larger is better."""
    ends = [*(point.cost for point in points[1:]), dearest]
    return sum(point.accuracy * max(0.0, end - point.cost) for point, end in zip(points, ends, strict=True)) / dearest
