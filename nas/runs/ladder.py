"""The ladder of fidelities: which cell is trained next at which rung above the search's own children. Pure.

Rung 0 is the search. The best cells go up, are trained there from the beginning, at the rung's own fidelity and with its own seeds,
and the best of them go further. Nobody waits for a rung to be full (Li et al. 2020, arXiv 1810.05934): how many may have gone up grows
with the share of the rung below that has ended, so the places of the dearest rungs are not taken by whoever was there first. All
follows from the ledger's records in their order: after a kill the same is decided again.

Without a ladder one lucky or false reward would crown whoever has it. So in the end such a search looks a second time at who is
believed best (the same training, another seed), and at the next, until who is believed best has been looked at twice: one training, unless
that finds a reward false. It is done on rung 0, where to beliefs it is a repeated training. A rung of the same fidelity would
have a mean of its own, which one cell says nothing of, and the rung of a later ``nas finalists`` would have nobody else to choose from.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from nas.evaluators.settings import RungSettings
from nas.runs.trials import Trial

EXACT = 1e-9
"""Added before a share of a whole number is rounded down: 0.29 · 100 is 28.999…"""
Best = Callable[[int, Collection[int]], int]
"""Which of these trials shall go up to that rung."""


@dataclass(frozen=True)
class Task:
    """A training that is due: of a trial's cells (``origin``) or of a control card, at a rung, with a seed of its own."""

    rung: int
    replicate: int
    origin: int | None = None
    card: str | None = None


@dataclass
class Stand:
    """What has become of a cell, or of a control card, at one rung."""

    asked: int = 0
    ended: int = 0
    rewards: list[float] = field(default_factory=list)
    """Of the trainings that were completed."""

    def ask(self, trial: Trial) -> None:
        """One more training."""
        self.asked = max(self.asked, trial.replicate + 1)

    def end(self, trial: Trial) -> None:
        """It has ended, well or not."""
        self.ended += 1
        if trial.reward is not None:
            self.rewards.append(trial.reward)


@dataclass
class Ladder:
    """Who is on which rung. Without rungs and cards nothing is ever due."""

    rungs: list[RungSettings] = field(default_factory=list)
    """Rung 1 first."""
    said: list[tuple[int | None, int]] = field(default_factory=list)
    """How many children every rung was to have when there first was one, and the search's budget then."""
    climbers: dict[int, dict[int, Stand]] = field(default_factory=dict)
    """Of every rung from 1, by the trial whose cells they are, in the order of going up; of rung 0 who has been looked at a second time."""
    cards: dict[int, dict[str, Stand]] = field(default_factory=dict)
    """Control cards of every rung from 0."""
    finished: list[int] = field(default_factory=list)
    """Trials of rung 0 that were completed, in the order of their ends: who may go up to rung 1."""

    def asked(self, trial: Trial) -> None:
        """Take in that a trial is to be trained."""
        if not trial.searched:
            self._stand(trial).ask(trial)

    def ended(self, trial: Trial) -> None:
        """Take in how a trial ended."""
        if not trial.searched:
            self._stand(trial).end(trial)
        elif trial.reward is not None and trial.repeats is None:
            self.finished.append(trial.number)

    def seeds(self, rung: int) -> int:
        """Trainings of every cell at a rung."""
        return self.rungs[rung - 1].seeds if rung else 1

    def at(self, rung: int) -> dict[int, Stand]:
        """Who has gone up to a rung; to rung 0, who has been looked at a second time."""
        return self.climbers.get(rung, {})

    def done(self, rung: int) -> list[int]:
        """The trials whose cells have been trained at a rung, with every seed that it has, at least once with success."""
        if rung == 0:
            return self.finished
        return [origin for origin, stand in self.at(rung).items() if stand.ended >= self.seeds(rung) and stand.rewards]

    def out(self, origin: int) -> bool:
        """Whether every training of these cells failed at some rung."""
        stands = ((rung, stands[origin]) for rung, stands in self.climbers.items() if origin in stands)
        return any(stand.ended >= self.seeds(rung) and not stand.rewards for rung, stand in stands)

    def reached(self) -> int:
        """The highest rung at which a cell has a reward."""
        return max((rung for rung, stands in self.climbers.items() if any(stand.rewards for stand in stands.values())), default=0)

    def trained(self) -> int:
        """Trainings that have ended at all rungs above the search's own, control cards aside."""
        return sum(stand.ended for rung, stands in self.climbers.items() if rung for stand in stands.values())

    def grown(self, rungs: Sequence[RungSettings], budget: int) -> list[RungSettings]:
        """The rungs of a search that is to have so many children, more than before: what is said in children is a share of them, too.

        Else the places at a rung, once taken, would be closed to whatever better cells the further children are.
        """
        found = list(rungs)
        for place, (rung, (children, first)) in enumerate(zip(rungs, self.said, strict=False)):
            if rung.children is not None and children is not None:
                found[place] = rung.model_copy(update={"children": max(rung.children, math.ceil(children * budget / first))})
        return found

    def next(self, spent: int, budget: int, over: bool, cards: Collection[str], best: Best, looks: int = 0) -> Task | None:
        """What is to be trained beside the search's own children, the highest rung first; None where that is theirs.

        Args:
            spent: children trained.
            budget: how many there shall be.
            over: whether the search has no more children to train, and none in training.
            cards: names of the control cards.
            best: chooses.
            looks: how many cells may be looked at a second time.
        """
        for rung in range(len(self.rungs), -1, -1):
            if task := self._seed_due(rung) or self._card_due(rung, cards):
                return task
            if rung and len(self.at(rung)) < self.admitted(rung, spent, budget, over) and (waiting := self._waiting(rung)):
                return Task(rung, 0, best(rung, waiting))
        return self._look_due(looks, best) if over else None

    def admitted(self, rung: int, spent: int, budget: int, over: bool) -> int:
        """How many may have gone up to a rung by now: as large a share of its places as has ended of the rung below."""
        rule, ended = self.rungs[rung - 1], self._ended(rung - 1, spent)
        closed = self._closed(rung - 1, spent, budget, over)
        if rule.share is not None:
            return math.ceil(rule.share * ended - EXACT) if closed else math.floor(rule.share * ended + EXACT)
        assert rule.children is not None  # the settings say so
        return rule.children if closed else rule.children * ended // max(1, self.places(rung - 1, budget))

    def places(self, rung: int, budget: int) -> int:
        """How many cells a rung has in the end, if enough of them come so far."""
        if rung == 0:
            return budget
        rule, below = self.rungs[rung - 1], self.places(rung - 1, budget)
        return min(below, rule.children) if rule.children is not None else math.ceil((rule.share or 0.0) * below - EXACT)

    def _stand(self, trial: Trial) -> Stand:
        if trial.card is not None:
            return self.cards.setdefault(trial.rung, {}).setdefault(trial.card, Stand())
        assert trial.origin is not None
        return self.climbers.setdefault(trial.rung, {}).setdefault(trial.origin, Stand())

    def _waiting(self, rung: int) -> list[int]:
        return [origin for origin in self.done(rung - 1) if origin not in self.at(rung)]

    def _ended(self, rung: int, spent: int) -> int:
        return spent if rung == 0 else sum(stand.ended >= self.seeds(rung) for stand in self.at(rung).values())

    def _closed(self, rung: int, spent: int, budget: int, over: bool) -> bool:
        """Whether nobody will come to a rung any more, and all who are there have been trained."""
        if rung == 0:
            return over
        if not self._closed(rung - 1, spent, budget, over) or self._ended(rung, spent) < len(self.at(rung)):
            return False
        return len(self.at(rung)) >= self.admitted(rung, spent, budget, over) or not self._waiting(rung)

    def _look_due(self, looks: int, best: Best) -> Task | None:
        """One look after the other: each says whom the next is at."""
        looked = self.at(0)
        if len(looked) >= looks or not self.finished or any(not stand.ended for stand in looked.values()):
            return None
        first = best(0, [number for number in self.finished if not self.out(number)] or self.finished)
        return None if first in looked else Task(0, 0, first)

    def _seed_due(self, rung: int) -> Task | None:
        if rung == 0:
            return None
        due = ((origin, stand.asked) for origin, stand in self.at(rung).items() if stand.asked < self.seeds(rung))
        return next((Task(rung, replicate, origin) for origin, replicate in due), None)

    def _card_due(self, rung: int, cards: Collection[str]) -> Task | None:
        """Cards are trained as soon as somebody has gone up to a rung, those of the search itself before all else."""
        if rung and not self.at(rung):
            return None
        stands = self.cards.get(rung, {})
        due = ((name, stands.get(name, Stand()).asked) for name in cards)
        return next((Task(rung, asked, card=name) for name, asked in due if asked < self.seeds(rung)), None)


def left_over(
    ladder: Ladder, rungs: Sequence[RungSettings], spent: int, budget: int, cards: Collection[str], best: Best, looks: int = 0
) -> bool:
    """Whether anything is left to be trained beside the search's own children, once those are all trained; changes the ladder."""
    ladder.rungs = list(rungs)
    return ladder.next(spent, budget, True, cards, best, looks) is not None
