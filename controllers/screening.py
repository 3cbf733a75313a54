"""Screening: a surrogate ranks many candidates, samples of the policy and changes of the best cells known, before one is proposed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from controllers.controller import Proposal, random_for
from controllers.options import PolicyGradientOptions
from controllers.pending import Pending, actions_of
from controllers.policy import Policy, generator_for
from controllers.surrogate import Integers, Prepared, Surrogate
from search_spaces.space import Actions, Decision, SearchSpace, chances, feature_table

LONGEST = 48
"""How far down its list a redraw may go."""
LEADERS = 10
"""Best cells told, or trained by earlier searches, whose changes are candidates."""
MOST_PENDING = 256
"""Pending proposals that the surrogate takes into account, the last ones: the cost of a ranking grows with their cube."""
LEAST_POOL, CANDIDATES_A_CHOICE = 320, 4
"""How many candidates there are: at least, and for every choice of a decision (NASNet 1,520, see benchmarks/README.md)."""
STEPS = (1, 1, 2, 3, 5, 8)
"""How many decisions a change of a cell changes, each as often, but never more than half: on real images cells that differ in
five decisions are as alike as those that differ in one, and steps of one or two stay where the first good cell was."""
WARM = 1.5
"""Temperature of half of the policy's samples."""


@dataclass(frozen=True)
class _Pool:
    """Candidates for one version of the policy and one state of the surrogate."""

    made_for: tuple[int, int]
    candidates: list[Actions]
    prepared: Prepared


class Screen:
    """The surrogate is its only durable state; pools are remembered while neither the policy nor the surrogate changes."""

    def __init__(self, space: SearchSpace, seed: int, options: PolicyGradientOptions) -> None:
        self.decisions, self.seed, self.options = space.decisions, seed, options
        describe = partial(feature_table, space) if options.screen_features else None
        self.surrogate = Surrogate(space.decisions, options.screen_capacity, options.screen_start, describe)
        self.pool_size = options.screen_pool or usual_pool_size(space.decisions)
        self.forget()

    def forget(self) -> None:
        """Forget what was derived: the surrogate's state has been replaced."""
        self._pool: _Pool | None = None
        self._samples: tuple[int, Integers, dict[Actions, tuple[float, ...]]] | None = None
        self._ranking: tuple[Pending, tuple[int, ...], list[Actions]] | None = None

    def ranked(self, policy: Policy, version: int, pending: Sequence[Proposal]) -> list[Actions]:
        """Candidates that are neither told nor pending, by expected improvement; at most ``LONGEST``."""
        waiting = Pending.of(pending)
        situation = (version, self.surrogate.absorbed, len(self.surrogate.fresh), waiting.changes)
        if self._ranking is None or self._ranking[0] is not waiting or self._ranking[1] != situation:
            pool, busy = self._candidates(policy, version), waiting.counts(actions_of)
            fresh = {point.actions for point in self.surrogate.fresh}
            last = waiting.last(MOST_PENDING)
            actions = np.array([proposal.actions for proposal in last], dtype=np.int64).reshape(-1, len(self.decisions))
            rungs = np.array([proposal.rung for proposal in last], dtype=np.int64)
            scores = self.surrogate.expected_improvement(pool.prepared, actions, rungs)
            best = (pool.candidates[i] for i in np.argsort(-scores, kind="stable"))
            self._ranking = (waiting, situation, [one for one in best if one not in busy and one not in fresh][:LONGEST])
        return self._ranking[2]

    def _candidates(self, policy: Policy, version: int) -> _Pool:
        made_for = (version, self.surrogate.absorbed)
        if self._pool is None or self._pool.made_for != made_for:
            array = self._rows(policy, version)
            told = self.surrogate.told
            candidates = [actions for actions in dict.fromkeys(map(tuple, array.tolist())) if actions not in told]
            array = np.array(candidates, dtype=np.int64).reshape(-1, len(self.decisions))
            self._pool = _Pool(made_for, candidates, self.surrogate.prepare(array))
        return self._pool

    def _rows(self, policy: Policy, version: int) -> Integers:
        """Random draws, samples of the policy, and in every so many pools changes of the best cells instead of some samples.

        Changes alone get stuck: the surrogate then only ever sees, and the policy only ever learns from, the surroundings of the
        first good cells.
        """
        options = self.options
        uniform = round(self.pool_size * options.screen_uniform)
        samples = self.pool_size - uniform
        local = 0 if self.surrogate.absorbed % options.screen_local_every else round(samples * options.screen_local)
        rng = np.random.default_rng(random_for(self.seed, "candidates", version, self.surrogate.absorbed).getrandbits(63))
        drawn = _drawn(self.decisions, uniform, rng)
        rows = [self.samples(policy, version)[: samples - local], drawn]
        if local:
            leaders = self.surrogate.leaders(LEADERS)
            told = self.surrogate.told
            new = leaders[[tuple(leader) not in told for leader in leaders.tolist()]][:local]  # of earlier searches
            rows += [new, changed(leaders, self.decisions, local - len(new), rng)]
        return np.concatenate(rows)

    def samples(self, policy: Policy, version: int) -> Integers:
        """What the policy of this version offers: samples [N, D], every other one at a raised temperature."""
        if self._samples is None or self._samples[0] != version:
            count = self.pool_size - round(self.pool_size * self.options.screen_uniform)
            temperatures = torch.ones(count, 1)
            temperatures[1::2] = WARM
            actions, log_probs = policy.sample(count, generator_for(self.seed, "samples", version), temperatures)
            known = dict(zip(map(tuple, actions.tolist()), map(tuple, log_probs.tolist()), strict=True))
            self._samples = (version, actions.numpy(), known)
        return self._samples[1]

    def log_probs(self, actions: Actions) -> tuple[float, ...] | None:
        """The log-probabilities of a candidate that is a sample of the policy, else None."""
        return None if self._samples is None else self._samples[2].get(actions)


def usual_pool_size(decisions: Sequence[Decision]) -> int:
    """How many candidates there are where nobody says: a large space has more good ones, and more that differ in one decision."""
    return max(LEAST_POOL, CANDIDATES_A_CHOICE * sum(len(decision.choices) for decision in decisions))


def _drawn(decisions: Sequence[Decision], count: int, rng: np.random.Generator) -> Integers:
    """``count`` action sequences [count, D], every decision drawn by its weights."""
    rows: Integers = rng.integers(0, np.array([len(decision.choices) for decision in decisions]), (count, len(decisions)))
    weighed = [i for i, decision in enumerate(decisions) if decision.weights]
    for place, odds in zip(weighed, chances([decisions[i] for i in weighed]), strict=True):
        rows[:, place] = rng.choice(len(odds), count, p=odds)
    return rows


def changed(parents: Integers, decisions: Sequence[Decision], count: int, rng: np.random.Generator) -> Integers:
    """``count`` action sequences [count, D]: the parents in turns, with some decisions changed, see ``STEPS``.

    Which decision is drawn evenly, and may be drawn twice; what it becomes by its weights.
    """
    odds = chances(decisions) if any(decision.weights for decision in decisions) else None
    sizes = np.array([len(decision.choices) for decision in decisions])
    free = np.flatnonzero(sizes > 1)
    children: Integers = parents[np.arange(count) % len(parents)].copy()
    if not len(free):
        return children
    steps = np.minimum(rng.choice(STEPS, count), max(len(free) // 2, 1))
    for rows in (np.flatnonzero(steps > done) for done in range(steps.max(initial=0))):
        places = rng.choice(free, len(rows))
        if odds is None:
            shift = 1 + (rng.random(len(rows)) * (sizes[places] - 1)).astype(np.int64)
            children[rows, places] = (children[rows, places] + shift) % sizes[places]
        else:
            left = odds[places]
            left[np.arange(len(rows)), children[rows, places]] = 0
            below = left.cumsum(1)
            children[rows, places] = (rng.random((len(rows), 1)) * below[:, -1:] >= below).sum(1)
    return children
