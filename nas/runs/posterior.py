"""What is believed of a cell after all its trainings, at every rung: a posterior mean and an interval, not a lucky reward. No torch.

A reward of cell x at rung r is

    y = μ_r + σ_r · (z(x, r) + ε),   cov z(x, r), z(x', r') = √(1 - η_r) √(1 - η_r') · (w k(x, x') + (1 - w) [x = x']) · ρ^[r ≠ r']

with ε of variance η_r, k the surrogate's kernel (decisions and features of a genotype) and w = 0 while there are few cells. A Gaussian
process so far (Rasmussen and Williams 2006, chapter 2; the means μ_r by section 2.7); w, ρ, η and the spread at higher rungs are those of
the greatest marginal likelihood on a small grid. A cell is at a higher rung because it did well at a lower one: rewards of both in one
process are what corrects for that.

A reward may be false (a leak, a bug): where one is far above what everything else says of its cell, an even chance for any reward up to 1
explains it better than a tail does, and it counts for as much as it can be trusted. A second look at the same cell settles it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.special import gammaln, stdtrit

from controllers.surrogate import Encoder, Hyperparameters
from search_spaces.space import Actions, SearchSpace, feature_table

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ENOUGH = 12
"""Cells from which on what is known of one says something about others."""
CHOSEN_ON = 240
"""Rewards that hyper-parameters are chosen on: all of the higher rungs, and an even choice of the lowest's."""
USUAL_SPREAD = 0.03
"""Deviation of cells' rewards that is assumed as if three cells had shown it: what small searches have."""
USUAL_NOISE = 0.3
"""Share of it that is noise where nothing is known, as if three repeated trainings had shown it."""
PRIOR_COUNT = 3.0
FALSE = 0.01
"""Share of rewards that are taken for possibly false."""
TAIL = 6.0
"""Degrees of freedom of the tail that a true reward may come from (Student's t)."""
LEAST_WEIGHT = 1e-5
INCREDIBLE = 4.0
"""Deviations above what is believed beyond which a reward is not."""
KERNEL = Hyperparameters(0.4, 1.0, 0.1, features=0.5, length=1.0)


@dataclass(frozen=True, slots=True)
class Observation:
    """A completed training: its reward in [0, 1], and the rung that it was done at (0 are the search's own children)."""

    actions: Actions
    reward: float
    rung: int = 0


@dataclass(frozen=True, slots=True)
class Belief:
    """What a cell's expected reward at a rung is believed to be: mean, 95 % interval, and the mean's deviation."""

    mean: float
    low: float
    high: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Crowning:
    """Who is the incumbent and why: its ``belief``. ``contender`` is believed to be better but has been looked at once only.

    ``bar`` is the greatest credible reward that was not enough: to crown anew before a greater one is known is a waste of time.
    """

    incumbent: Actions
    belief: Belief
    contender: Actions | None
    bar: float


def crowned(space: SearchSpace, observations: Sequence[Observation], rung: int = 0, images: Mapping[int, int] | None = None) -> Crowning:
    """The incumbent by posterior mean: the best of the cells with two rewards, so that a single lucky or false one crowns nobody.

    Where no cell has two, it is the best of all. Of equal means the one observed first is taken. There must be an observation.
    """
    believed = beliefs(space, observations, rung, images)
    looks = Counter(one.actions for one in observations)
    twice = [actions for actions in believed if looks[actions] > 1]
    best = max(believed, key=lambda actions: believed[actions].mean)
    incumbent = max(twice or [best], key=lambda actions: believed[actions].mean)
    belief = believed[incumbent]
    refused = [one.reward for one in observations if _refused(one, believed[one.actions], belief)]
    return Crowning(incumbent, belief, best if looks[best] < 2 else None, max([belief.mean, *refused]))


def _refused(one: Observation, belief: Belief, incumbent: Belief) -> bool:
    return belief.mean < incumbent.mean and one.reward - belief.mean <= INCREDIBLE * belief.deviation


@dataclass(frozen=True)
class _Model:
    """Hyper-parameters: ``shared`` w, ``relation`` ρ, ``noise`` η where no training was repeated, ``stretch`` that of higher rungs' σ."""

    shared: float
    relation: float
    noise: float
    stretch: float


@dataclass(frozen=True)
class _Scale:
    """Of one rung's rewards: centre μ, deviation σ, squared deviation of repeated trainings, how many of those, and a floor of it."""

    centre: float
    deviation: float
    repeats: float
    count: int
    floor: float

    def noise(self, model: _Model, stretch: float) -> float:
        """The share η of σ² that is noise."""
        variance = (self.deviation * stretch) ** 2
        share = (PRIOR_COUNT * model.noise + self.count * self.repeats / variance) / (PRIOR_COUNT + self.count)
        return min(max(share, self.floor / variance, 0.01), 0.95)


def beliefs(
    space: SearchSpace, observations: Sequence[Observation], rung: int, images: Mapping[int, int] | None = None
) -> dict[Actions, Belief]:
    """What is believed of every cell observed, at one rung.

    Args:
        space: that the actions are of.
        observations: completed trainings in any order; failed ones are left out.
        rung: whose rewards the beliefs are in. Where nothing has been observed at it, in those of the highest observed.
        images: how many images rewards are measured on, by rung, where that is known: no reward is taken for more precise.

    Returns:
        Beliefs by actions, in the order of the first observation. The same observations in the same order give the same beliefs.
    """
    if not observations:
        return {}
    data = _Data.of(space, observations, images or {})
    rung = rung if rung in data.scales else max(data.scales)
    model = data.choose()
    mean, deviation = data.posterior(model, rung)
    reach = stdtrit(PRIOR_COUNT + len(data.cells) - 1, 0.975)  # the spread is itself estimated: Student's quantile
    low, high = (np.clip(mean + side * reach * deviation, 0, 1) for side in (-1, 1))
    rows = zip(data.cells, np.clip(mean, 0, 1).tolist(), low.tolist(), high.tolist(), deviation.tolist(), strict=True)
    return {actions: Belief(*numbers) for actions, *numbers in rows}


@dataclass(frozen=True)
class _Data:
    """n observations of m cells as arrays."""

    cells: list[Actions]
    cell: Integers
    """Which cell each observation is of [n]."""
    rungs: Integers
    """And its rung [n]."""
    rewards: Floats
    scales: dict[int, _Scale]
    alike: Floats | None
    """The surrogate's kernel between cells [m, m]; None where they are too few."""

    @classmethod
    def of(cls, space: SearchSpace, observations: Sequence[Observation], images: Mapping[int, int]) -> "_Data":
        cells = list(dict.fromkeys(one.actions for one in observations))
        places = {actions: place for place, actions in enumerate(cells)}
        cell, rungs = np.array([(places[one.actions], one.rung) for one in observations], dtype=np.int64).T
        rewards = np.array([one.reward for one in observations], dtype=np.float64)
        lowest = int(rungs.min())
        base = _scale(rewards[rungs == lowest], cell[rungs == lowest], USUAL_SPREAD, images.get(lowest))
        scales = {lowest: base}
        for rung in sorted(set(rungs.tolist()) - {lowest}):
            scales[rung] = _scale(rewards[rungs == rung], cell[rungs == rung], base.deviation, images.get(rung))
        return cls(cells, cell, rungs, rewards, scales, _alike(space, cells))

    # ------------------------------------------------------------------------------------------------ the model

    def stretch(self, model: _Model) -> Floats:
        """By how much more than σ the rewards of each observation's rung are taken to spread [n]."""
        lowest = min(self.scales)
        return np.where(self.rungs == lowest, 1.0, model.stretch)

    def standardised(self, model: _Model) -> Floats:
        """The rewards in their rung's deviations from its centre [n]."""
        scales = [self.scales[rung] for rung in self.rungs.tolist()]
        centres, deviations = (np.array([getattr(scale, name) for scale in scales]) for name in ("centre", "deviation"))
        values: Floats = (self.rewards - centres) / (deviations * self.stretch(model))
        return values

    def noise(self, model: _Model, rungs: Integers) -> Floats:
        """η of each of some rungs [k]."""
        lowest = min(self.scales)
        shares = {rung: scale.noise(model, 1.0 if rung == lowest else model.stretch) for rung, scale in self.scales.items()}
        return np.array([shares[rung] for rung in rungs.tolist()])

    def covariance(self, model: _Model, cells: Integers, rungs: Integers) -> Floats:
        """Of the latent values z of the observations with those of some cells at some rungs [n, k]."""
        shared = 0.0 if self.alike is None else model.shared
        between = (1 - shared) * (self.cell[:, None] == cells)
        if self.alike is not None and shared:
            between = between + shared * self.alike[np.ix_(self.cell, cells)]
        related = np.where(self.rungs[:, None] == rungs, 1.0, model.relation)
        true, there = (np.sqrt(1 - self.noise(model, where)) for where in (self.rungs, rungs))
        covariance: Floats = true[:, None] * there * between * related
        return covariance

    def choose(self) -> _Model:
        """The hyper-parameters of the greatest marginal likelihood, of a part of the observations where there are many."""
        part = self._part()
        several, enough = len(self.scales) > 1, part.alike is not None
        relations, stretches = ((0.4, 0.7, 0.9), (1.0, 1.6)) if several else ((0.7,), (1.0,))
        grid = product((0.0, 0.4, 0.8) if enough else (0.0,), relations, (0.15, 0.3, 0.5), stretches)
        usual = _Model(0.4 if enough else 0.0, 0.7, USUAL_NOISE, 1.0)
        if len(part.rewards) < 2 * PRIOR_COUNT:
            return usual
        return max((_Model(*values) for values in grid), key=lambda model: (part.evidence(model), model == usual))

    def evidence(self, model: _Model) -> float:
        """Log marginal likelihood of the rewards, those beyond four deviations taken for four; the rungs' means integrated out."""
        stretch = self.stretch(model)
        values = np.clip(self.standardised(model), -4, 4)
        noise = np.diag(self.noise(model, self.rungs))
        factor = np.linalg.cholesky(self.covariance(model, self.cell, self.rungs) + _offsets(self.rungs) + noise)
        weights = cho_solve((factor, True), values, check_finite=False)
        return float(-0.5 * values @ weights - np.log(np.diag(factor)).sum() - np.log(stretch).sum()) + _prior(model)

    def posterior(self, model: _Model, rung: int) -> tuple[Floats, Floats]:
        """Mean and deviation of every cell's expected reward at a rung [m], after false rewards have been found out."""
        values = np.maximum(self.standardised(model), -4)
        noise, latent = self.noise(model, self.rungs), self.covariance(model, self.cell, self.rungs) + _offsets(self.rungs)
        inverse, trust = np.empty(0), np.ones(len(values))
        for _ in range(4):
            factor = np.linalg.cholesky(latent + np.diag(noise / trust))
            inverse = cho_solve((factor, True), np.eye(len(values)), check_finite=False)
            trust = self._trust(model, values, inverse, noise, trust)
        factor = np.linalg.cholesky(latent + np.diag(noise / trust))
        everyone, there = np.arange(len(self.cells)), np.full(len(self.cells), rung)
        cross = self.covariance(model, everyone, there) + _offsets(self.rungs, rung)[:, None]
        mean = cross.T @ cho_solve((factor, True), values, check_finite=False)
        half = np.linalg.solve(factor, cross)
        prior = 1 - self.noise(model, there)[0] + OFFSET
        scale = self.scales[rung]
        unit = scale.deviation * (1.0 if rung == min(self.scales) else model.stretch)
        return scale.centre + unit * mean, unit * np.sqrt(np.maximum(prior - (half * half).sum(0), 1e-12))

    def _trust(self, model: _Model, values: Floats, inverse: Floats, noise: Floats, trust: Floats) -> Floats:
        """How far each reward is believed, in (0, 1]: by its distance above what all the others say of it (left out: equation 5.12)."""
        variance = 1 / np.diag(inverse)
        above = (inverse @ values) * variance
        variance = np.maximum(variance - noise / trust + noise, 1e-9)  # as if it were a true one
        units = np.array([self.scales[r].deviation for r in self.rungs.tolist()]) * self.stretch(model)
        true = _student(np.maximum(above, 0) / np.sqrt(variance)) / np.sqrt(variance)
        believed = (1 - FALSE) * true / ((1 - FALSE) * true + FALSE * units)
        typical = (1 - FALSE) * _student(np.zeros(1))[0] / np.sqrt(variance)
        believed = np.minimum(believed * (typical + FALSE * units) / typical, 1.0)  # one that is as expected is believed wholly
        return np.where(above > 0, np.maximum(believed, LEAST_WEIGHT), 1.0)

    def _part(self) -> "_Data":
        """At most about ``CHOSEN_ON`` of the observations."""
        lowest = np.flatnonzero(self.rungs == min(self.scales))
        higher = np.flatnonzero(self.rungs != min(self.scales))
        room = max(CHOSEN_ON - len(higher), CHOSEN_ON // 2)
        if len(lowest) <= room:
            return self
        looked_at = np.isin(self.cell[lowest], self.cell[higher])
        rest = lowest[~looked_at]
        some = rest[np.linspace(0, len(rest) - 1, max(room - int(looked_at.sum()), room // 2)).astype(np.int64)] if len(rest) else rest
        kept = np.sort(np.concatenate([higher[-CHOSEN_ON:], lowest[looked_at][:room], some]))
        return replace(self, cell=self.cell[kept], rungs=self.rungs[kept], rewards=self.rewards[kept])


OFFSET = 4.0
"""Prior variance of a rung's mean about the centre of its rewards, in squared deviations of the rung."""


def _offsets(rungs: Integers, other: int | None = None) -> Floats:
    """The covariance that unknown means of the rungs add: [n, n], or [n] with those of one rung."""
    same = rungs[:, None] == rungs if other is None else rungs == other
    covariance: Floats = OFFSET * same
    return covariance


def _scale(rewards: Floats, cells: Integers, usual: float, images: int | None) -> _Scale:
    """Robust centre and spread, a usual spread counted in as if a few cells had shown it, and what repeated trainings say."""
    centre = float(np.median(rewards))
    spread = 1.4826 * float(np.median(np.abs(rewards - centre)))
    count = len(np.unique(cells))
    variance = (PRIOR_COUNT * usual**2 + (count - 1) * spread**2) / (PRIOR_COUNT + count - 1)
    within, freedom = 0.0, 0
    for cell in np.unique(cells) if count < len(cells) else ():
        again = rewards[cells == cell]
        if len(again) > 1:
            # of two that disagree widely one is false: that is not noise
            within += float(np.minimum((again - np.median(again)) ** 2, variance).sum())
            freedom += len(again) - 1
    floor = 0.0 if images is None else max(centre * (1 - centre), 1 / images) / images
    return _Scale(centre, float(np.sqrt(variance)), within / max(freedom, 1), freedom, floor)


def _alike(space: SearchSpace, cells: Sequence[Actions]) -> Floats | None:
    if len(cells) < ENOUGH:
        return None
    encoder = Encoder(space.decisions, partial(feature_table, space))
    rows = encoder.encode(np.array(cells))
    hyper = KERNEL if encoder.has_features(rows) else replace(KERNEL, features=0.0)
    return encoder.kernel(rows, rows, hyper)


def _prior(model: _Model) -> float:
    """A slight preference for what is usual, so that a handful of rewards does not choose an extreme."""
    return float(-((model.relation - 0.75) ** 2) / 0.045 - (np.log(model.noise / USUAL_NOISE) ** 2) / 2 - (np.log(model.stretch) ** 2) / 2)


def _student(z: Floats) -> Floats:
    """Density of Student's t at z."""
    constant = np.exp(gammaln((TAIL + 1) / 2) - gammaln(TAIL / 2)) / np.sqrt(TAIL * np.pi)
    density: Floats = constant * (1 + z * z / TAIL) ** (-(TAIL + 1) / 2)
    return density
