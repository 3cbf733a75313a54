"""Asynchronous successive halving, the stopping variant: a child goes on at a rung only among the best there so far. Pure.

Li et al. 2020 (arXiv 1810.05934) pause every child at every rung and promote some later. Here a child is judged once, when it
reaches the rung, and goes on or ends. So each trial has one outcome, told soon and in order, no paused children wait for a
promotion that may never come, and nothing is decided again after a crash: the reports in the ledger decide, in their order.
"""

from array import array
from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Rung:
    """The children that reached a rung, and who of them went on."""

    reduction: int
    judged: dict[int, bool] = field(default_factory=dict)
    """Whether it goes on, of every child here that has not ended."""
    rewards: "array[float]" = field(default_factory=lambda: array("d"))
    """Of all children that were here, lowest first."""
    survivors: int = 0
    """How many of them went on."""

    def judge(self, trial: int, reward: float) -> None:
        """Take in a child: it goes on if fewer than 1/``reduction`` of those here (at least one) are strictly better.

        The first word counts: an attempt that starts again and passes by once more is not judged again.
        """
        if trial in self.judged:
            return
        better = len(self.rewards) - bisect_right(self.rewards, reward)
        insort(self.rewards, reward)
        self.judged[trial] = better < max(1, len(self.rewards) // self.reduction)
        self.survivors += self.judged[trial]


@dataclass
class Halving:
    """All rungs of a run. Without rungs nobody is stopped."""

    rungs: dict[int, Rung] = field(default_factory=dict)

    def open(self, epochs: Iterable[int], reduction: int) -> None:
        """Have these rungs, beside what they hold already."""
        for epoch in epochs:
            self.rungs.setdefault(epoch, Rung(reduction))

    def judge(self, trial: int, epoch: int, reward: float) -> None:
        """Take in a report; most are between rungs."""
        if epoch in self.rungs:
            self.rungs[epoch].judge(trial, reward)

    def stopped_at(self, trial: int) -> int | None:
        """The rung at which a trial has to end; None while it may go on."""
        return next((epoch for epoch, rung in self.rungs.items() if not rung.judged.get(trial, True)), None)

    def forget(self, trial: int) -> None:
        """The trial has ended: nothing more is asked about it."""
        for rung in self.rungs.values():
            rung.judged.pop(trial, None)
