"""The order of a run's trials by what is believed of them over all rungs, and how its control cards did. No torch, no ray."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import fmean, linear_regression, median, stdev
from typing import TYPE_CHECKING, Any

from nas.runs.folder import RunFolder
from nas.runs.noise import guesses
from nas.runs.state import RunState
from nas.runs.trials import Chosen, Trial
from nas.tools.intervals import half_width
from nas.training.folder import WINNER, TrainFolder
from search_spaces.space import Actions, SearchSpace

if TYPE_CHECKING:
    from nas.runs.posterior import Belief, Observation

MOST = 1000
"""Rewards of the search's own children that are believed together: the time grows with the cube of their number."""
BEST_OF_MOST = 600
"""How many of those are the best, where there are more; the others are an even choice of the rest."""
NEAR = 0.1
"""Share of the decisions up to which cells are nearly the same: in the NASNet space five, up to which rewards on CIFAR-10 differ no
more than at one (benchmarks/README.md)."""


class Knowledge:
    """What is known of a run's cells: follows its state, and believes anew only where a training has ended since."""

    def __init__(self, space: SearchSpace, state: RunState) -> None:
        self.space, self.state = space, state
        self._seen = 0
        self._observations: list[Observation] = []
        self._trials: dict[Actions, int] = {}
        self._believed: dict[int, tuple[int, dict[int, Belief]]] = {}

    def believed(self, rung: int) -> "Mapping[int, Belief]":
        """Of every completed trial of the search, what its cells' reward at a rung is believed to be."""
        self._catch_up()
        known = self._believed.get(rung)
        if known is None or known[0] != len(self._observations):
            found = self._believe(rung)
            known = len(self._observations), {self._trials[actions]: belief for actions, belief in found.items()}
            self._believed[rung] = known
        return known[1]

    def best(self, rung: int, among: Collection[int]) -> int:
        """Of some trials the one whose cells are believed to be best at a rung; who is nearly the same as one there only after all others.

        A rung says of such cells again what it has said, and children of a search come to lie around a few good ones.
        """
        believed = self.believed(rung)
        order = sorted(among, key=lambda number: (-believed[number].mean if number in believed else 0.0, number))
        return next((number for number in order if not self._near(number, rung)), order[0])

    def _near(self, number: int, rung: int) -> bool:
        """Whether the cells differ in a tenth of the decisions at most from some that have gone up to that rung."""
        if not rung:
            return False
        trials = self.state.trials
        actions, limit = trials[number].proposal.actions, int(NEAR * len(self.space.decisions))
        there = (trials[origin].proposal.actions for origin in self.state.ladder.at(rung))
        return any(sum(a != b for a, b in zip(actions, other, strict=True)) <= limit for other in there)

    def _believe(self, rung: int) -> "dict[Actions, Belief]":
        """Of all cells; where there are very many, of a part of them, and of the others by their rewards alone."""
        from nas.runs.posterior import Belief, beliefs  # here: brings scipy

        images = {rung: yardstick.images for rung, yardstick in enumerate(self.state.yardsticks)}
        part = _part(self._observations)
        found = beliefs(self.space, part, rung, images)
        rest = [one for one in self._observations if one.actions not in found]
        if rest:
            line = linear_regression(*zip(*((one.reward, found[one.actions].mean) for one in part if not one.rung), strict=True))
            half = median(half_width(belief.mean, belief.low, belief.high) for belief in found.values())
            deviation = median(belief.deviation for belief in found.values())
        for one in rest:
            mean, low, high = (min(1.0, max(0.0, line.intercept + line.slope * one.reward + side)) for side in (0.0, -half, half))
            found[one.actions] = Belief(mean, low, high, deviation)
        return found

    def _catch_up(self) -> None:
        from nas.runs.posterior import Observation

        for number in self.state.told[self._seen :]:
            trial = self.state.trials[number]
            if trial.reward is not None and trial.repeats is None and trial.card is None:
                self._observations.append(Observation(trial.proposal.actions, trial.reward, trial.rung))
                self._trials.setdefault(trial.proposal.actions, number if trial.origin is None else trial.origin)
        self._seen = len(self.state.told)


def _part(observations: "Sequence[Observation]") -> "list[Observation]":
    """At most ``MOST`` rewards of the search's own children, the best and those of cells that went up among them; all of higher rungs."""
    own = [one for one in observations if not one.rung]
    if len(own) <= MOST:
        return list(observations)
    up = {one.actions for one in observations if one.rung}
    first = sorted((one for one in own if one.actions not in up), key=attrgetter("reward"), reverse=True)
    best, rest = first[:BEST_OF_MOST], first[BEST_OF_MOST:]
    chosen = {one.actions for one in (*best, *rest[:: max(1, len(rest) // (MOST - BEST_OF_MOST))])} | up
    return [one for one in observations if one.actions in chosen]


@dataclass(frozen=True)
class Standing:
    """One cell: its trial in the search, what is believed of it at the top rung, and its rewards at the highest rung it reached.

    ``proxy`` is its reward in the search itself, ``rewards`` are those of ``rung``, one for each seed that worked, second looks too.
    """

    trial: int
    belief: "Belief"
    rung: int
    rewards: tuple[float, ...]
    proxy: float

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds; None with fewer than two."""
        return stdev(self.rewards) if len(self.rewards) > 1 else None


@dataclass(frozen=True)
class CardStanding:
    """A control card's rewards at a rung, one for each seed that worked."""

    name: str
    rung: int
    rewards: tuple[float, ...]

    def __str__(self) -> str:
        seeds = f" ({len(self.rewards)} seeds)" if len(self.rewards) > 1 else ""
        return f"{self.name} {fmean(self.rewards):.4f}{seeds}"

    def beside(self, belief: "Belief") -> str:
        """Where it is beside a cell of which that is believed at its rung: ahead of or behind the 95 % interval, or level with it."""
        mean = fmean(self.rewards)
        return "ahead" if mean > belief.high else "behind" if mean < belief.low else "level"


@dataclass(frozen=True)
class Standings:
    """A run's completed trials, the best first by what is believed of them at ``top``, the highest rung that anybody has reached.

    Those that were trained there come before all others, of whom it is only expected: else the order would promise what nobody has seen.

    Attributes:
        ranked: those whose every training failed at some rung come last.
        cards: the control cards at every rung.
    """

    top: int
    ranked: tuple[Standing, ...]
    cards: tuple[CardStanding, ...]

    @property
    def ties(self) -> int:
        """How many cells of the top rung cannot be told from the best, itself among them: their 95 % intervals hold its mean."""
        best = self.ranked[0].belief.mean if self.ranked else 0.0
        return sum(one.belief.high >= best for one in self.ranked if one.rung == self.top)

    def cards_at(self, rung: int) -> tuple[CardStanding, ...]:
        """The control cards that have a reward at a rung."""
        return tuple(card for card in self.cards if card.rung == rung)

    def how(self, rank: int) -> str:
        """How the trial of that rank (from 1) came to it, in words."""
        one = self.ranked[rank - 1]
        if not self.top:
            return f"believed {words(one.belief)}{', looked at twice' if len(one.rewards) > 1 else ''}"
        below = "" if one.rung == self.top else f", trained at rung {one.rung}" if one.rung else ", trained by the search alone"
        return f"believed {words(one.belief)} at rung {self.top}{below}"


def words(belief: "Belief", digits: int = 4) -> str:
    """A belief with half the width of its 95 % interval."""
    return f"{belief.mean:.{digits}f} ± {half_width(belief.mean, belief.low, belief.high):.{digits}f}"


def standings_of(space: SearchSpace, state: RunState, knowledge: Knowledge | None = None) -> Standings:
    """The standings as the state has them; ``knowledge`` of the same state saves believing twice."""
    ladder, top = state.ladder, state.ladder.reached()
    believed = (knowledge or Knowledge(space, state)).believed(top)
    reached = {origin: rung for rung in range(1, top + 1) for origin, stand in ladder.at(rung).items() if stand.rewards}
    ranked = []
    for trial in sorted(believed, key=lambda number: (ladder.out(number), reached.get(number, 0) < top, -believed[number].mean, number)):
        proxy, rung = state.trials[trial].reward or 0.0, reached.get(trial, 0)
        there = ladder.at(rung).get(trial)
        rewards = (*(() if rung else (proxy,)), *(there.rewards if there is not None else ()))
        ranked.append(Standing(trial, believed[trial], rung, rewards, proxy))
    cards = (
        CardStanding(name, rung, tuple(stand.rewards))
        for rung, stands in sorted(ladder.cards.items())
        for name, stand in stands.items()
        if stand.rewards
    )
    return Standings(top, tuple(ranked), tuple(cards))


@dataclass(frozen=True)
class Known:
    """A run's completed trials, best known first, and their standings in the same order."""

    trials: Chosen
    standings: Standings

    def how(self, rank: int) -> str:
        """How the trial of that rank (from 1) came to it, in words."""
        return self.standings.how(rank)

    def head(self, most: int) -> list[tuple[Trial, float]]:
        """The best known, each with what is believed of its reward."""
        return [(trial, one.belief.mean) for trial, one in zip(self.trials[:most], self.standings.ranked, strict=False)]


def best_known(space: SearchSpace, state: RunState, knowledge: Knowledge | None = None) -> Known:
    """The order in which a run hands its trials on, everywhere: in best/, for ``--rank``, in its table."""
    found = standings_of(space, state, knowledge)
    return Known(Chosen(state.trials, [one.trial for one in found.ranked]), found)


def incumbent_beside(space: SearchSpace, state: RunState, found: Standings) -> "dict[int, Belief | None]":
    """What is believed of the first of a ranking at every rung that has cards; None where it has not been trained there."""
    first, knowledge = next(iter(found.ranked), None), Knowledge(space, state)

    def at(rung: int) -> "Belief | None":
        if first is None or first.rung < rung:
            return None
        return first.belief if rung == found.top else knowledge.believed(rung)[first.trial]

    return {rung: at(rung) for rung in sorted({card.rung for card in found.cards})}


def tied(found: Standings) -> str | None:
    """Who cannot be told from the first of a ranking, in words; None where it stands alone."""
    if found.ties < 2:
        return None
    where = f" of rung {found.top}" if found.top else ""
    there = sum(one.rung == found.top for one in found.ranked)
    return f"{found.ties} of {there} cells{where} are tied, and cannot be told apart: their 95 % intervals hold the best belief"


def doubt(state: RunState, found: Standings) -> str | None:
    """What must be known before the first of a ranking is trusted: that nobody has learnt anything, or who is tied; None for nothing."""
    best = next((trial.reward for trial in state.ranked()), None)
    guessed = guesses(best, state.yardstick) if best is not None and state.yardstick is not None and not found.top else None
    return guessed or tied(found)


def agreement(state: RunState, rung: int) -> str | None:
    """How well the rung below had ordered the cells of this one, in words: Kendall's tau-b, its p-value; None for fewer than three."""
    from scipy.stats import kendalltau

    ladder = state.ladder
    here = {origin: fmean(stand.rewards) for origin, stand in ladder.at(rung).items() if stand.rewards}
    below = [fmean(ladder.at(rung - 1)[origin].rewards) if rung > 1 else state.trials[origin].reward or 0.0 for origin in here]
    if len(here) < 3:
        return None
    found = kendalltau(below, list(here.values()))
    if math.isnan(found.statistic):
        return None
    chance = "p < 0.001" if found.pvalue < 0.001 else f"p = {found.pvalue:.3f}"
    return f"had ordered {len(here)} of its cells with Kendall's tau {found.statistic:.2f} ({chance})"


def winner_test(folder: RunFolder) -> dict[str, Any] | None:
    """The one reading of the test set by the winner: ``top1``, ``images``, and the ``trial`` that it is; None where there is none."""
    place = TrainFolder(folder.path / WINNER)
    result = place.result()
    test = result.get("test") if result else None
    if not isinstance(test, dict):
        return None
    origin = place.genotype().provenance
    return {**test, "trial": origin.trial if origin is not None else None}
