"""The trainings of a run as short rows, read from its ledger once: what most tables of a report are made of. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from controllers.controller import Completed, Failed, Stopped
from nas.runs.state import RunState
from nas.runs.trials import Trial

COSTS = {"macs": "MACs", "params": "parameters", "latency": "latency, ms"}
"""What a network may cost, as ledgers name it and in words; a ledger has those that the search recorded."""
_UNITS = {"latency": 1000.0}
"""How many of a figure's units a ledger's unit is, where they differ."""
_OUTCOMES: dict[type | None, str] = {Completed: "completed", Stopped: "stopped", Failed: "failed"}


@dataclass(frozen=True, slots=True)
class Child:
    """One trial. ``where`` says in words at which rung it was trained, or as which card; times are seconds of work since the start.

    ``seconds`` are of its training, as the child measured them, else from its start to its end; ``costs`` are in the order of ``COSTS``.
    ``spends`` is whether it counts as one of the budget.
    """

    trial: int
    where: str
    rung: int
    replicate: int
    card: str | None
    origin: int | None
    warm: str | None
    repeats: int | None
    outcome: str
    reward: float | None
    reason: str
    detail: str
    attempts: int
    setbacks: tuple[tuple[str, int], ...]
    epochs: int
    started: float | None
    ended: float | None
    seconds: float | None
    costs: tuple[float | None, ...]
    spends: bool

    @property
    def searched(self) -> bool:
        """Whether it is one of the search's own children."""
        return self.rung == 0 and self.card is None


def children_of(state: RunState) -> list[Child]:
    """All trials in the order of asking."""
    clock = _Clock(state.sessions)
    return [_child(trial, clock) for trial in state.trials.values()]


def where_words(rung: int, card: bool) -> str:
    """Where a training belongs, as figures name it."""
    place = "search" if rung == 0 else f"rung {rung}"
    return f"{place}, control card" if card else place


def _child(trial: Trial, clock: "_Clock") -> Child:
    evaluation = trial.evaluation
    outcome = None if evaluation is None else evaluation.outcome
    metrics = {} if evaluation is None else evaluation.metrics
    sized = {} if trial.size is None else trial.size.costs
    started, ended = (None if moment is None else clock(moment) for moment in (trial.started, trial.ended))
    lasted = None if started is None or ended is None else ended - started
    return Child(
        trial=trial.number,
        where=where_words(trial.rung, trial.card is not None),
        rung=trial.rung,
        replicate=trial.replicate,
        card=trial.card,
        origin=trial.origin,
        warm=trial.warm,
        repeats=trial.repeats,
        outcome="pending" if outcome is None else _OUTCOMES[type(outcome)],
        reward=outcome.reward if isinstance(outcome, Completed | Stopped) else None,
        reason=outcome.reason if isinstance(outcome, Failed) else "",
        detail=outcome.detail if isinstance(outcome, Failed) else "",
        attempts=trial.attempts,
        setbacks=tuple(sorted(trial.setbacks.items())),
        epochs=trial.reports[-1].epoch if trial.reports else 0,
        started=started,
        ended=ended,
        seconds=metrics.get("train_seconds", lasted),
        costs=tuple(_in_units(name, sized.get(name, metrics.get(name))) for name in COSTS),
        spends=trial.spends_budget,
    )


def _in_units(name: str, cost: float | None) -> float | None:
    return None if cost is None else cost * _UNITS.get(name, 1.0)


class _Clock:
    """Turns moments into seconds of work: what lies between two sessions does not count."""

    def __init__(self, sessions: Sequence[tuple[float, float]]) -> None:
        self._sessions = list(sessions)

    def __call__(self, moment: float) -> float:
        return sum(min(end, moment) - start for start, end in self._sessions if moment > start)
