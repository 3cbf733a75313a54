"""A run's rewards, incumbent, rungs, failures and policy as points for loggers, made from the ledger alone."""

import math
from collections import Counter, deque

from controllers.controller import Failed
from nas.loggers.logger import Point
from nas.runs.state import RunState
from nas.runs.trials import Trial

WINDOW = 50
"""Rewards in the running mean."""


class Telemetry:
    """Follows a run's state: every outcome, with what the policy learned from it, is one point, in the order of the ledger.

    Steps count outcomes. Scalars: ``reward/child``, ``reward/incumbent``, ``reward/mean`` (of the last 50 rewards),
    ``ladder/rung-N`` (the reward of a training there), ``children/failed`` and ``children/repeated`` (so far), ``failed/REASON`` (so far),
    and ``policy/…`` as the controller's ``tell`` returned it. The points are the same in every session, however often one was killed.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._told = self._updates = self._repeated = 0
        self._failed: Counter[str] = Counter()
        self._incumbent = -math.inf
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def fresh(self) -> list[Point]:
        """What the state has and was not asked for before."""
        updates = dict(self._state.updates[self._updates :])
        self._updates = len(self._state.updates)
        numbers = self._state.told[self._told :]
        points = []
        for number in numbers:
            self._told += 1
            trial = self._state.trials[number]
            scalars = self._of_search(trial) if trial.searched else _of_ladder(trial)
            scalars |= {f"policy/{name}": value for name, value in updates.get(number, {}).items()}
            if scalars:
                points.append(Point(self._told, trial.ended or 0.0, scalars))
        return points

    def _of_search(self, trial: Trial) -> dict[str, float]:
        if trial.evaluation is not None and isinstance(trial.evaluation.outcome, Failed):
            self._failed[trial.evaluation.outcome.reason] += 1
        self._repeated += trial.repeats is not None
        scalars = {"children/failed": float(self._failed.total()), "children/repeated": float(self._repeated)}
        scalars |= {f"failed/{reason}": float(count) for reason, count in self._failed.items()}
        if trial.reward is not None:
            self._recent.append(trial.reward)
            self._incumbent = max(self._incumbent, trial.reward)
            mean = sum(self._recent) / len(self._recent)
            scalars |= {"reward/child": trial.reward, "reward/incumbent": self._incumbent, "reward/mean": mean}
        return scalars


def _of_ladder(trial: Trial) -> dict[str, float]:
    name = "children/second_look" if trial.second_look else f"ladder/rung-{trial.rung}"
    return {name: trial.reward} if trial.reward is not None and trial.card is None else {}
