"""What is believed of a cell after all its trainings, at every rung: a posterior mean and an interval, not a lucky reward. No torch.

What a cell x is worth at rung r, the expectation of its rewards there, follows from what it is worth at the rung below:

    f_r(x) = a_r + b_r f_(r-1)(x) + δ_r(x),    y = f_r(x) + ε,    cov δ_r(x), δ_r(x') = τ_r² (w k(x, x') + (1 - w) [x = x'])

(Kennedy and O'Hagan 2000, doi 10.1093/biomet/87.1.1, section 2), ε of variance ν_r, k the surrogate's kernel (decisions and features of
a genotype), w = 0 while there are few cells. So every rung is one step: what is believed of the rung below is the prior of a Gaussian
process that is told this rung's rewards (Le Gratiet and Garnier 2014, arXiv 1210.0686; Rasmussen and Williams 2006, 2.7 for a_r).

Cells are at a rung because they did well below: their spread there and their correlation with the rung below say little of all the others'.
The regression of a rung's rewards on what is believed below is what such a selection leaves as it is, since it was selected by that;
but cells that lie close together below leave its slope open, and the less is known of a cell the further it lies from them. So b, τ
and ν, and w and ν of the lowest rung, are not chosen but averaged over, weighed by likelihood (Rasmussen and Williams 2006, section
5.2): the intervals have what is left open.

A reward may be false (a leak, a bug): where one is far above what everything else says of its cell, an even chance for any reward up to 1
explains it better than a tail does, and it counts for as much as it can be trusted. A second look at the same cell settles it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.special import gammaln, logsumexp, stdtrit

from controllers.surrogate import Encoder, Hyperparameters
from search_spaces.space import Actions, SearchSpace, feature_table

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ENOUGH = 12
"""Cells from which on what is known of one says something about others."""
CHOSEN_ON = 240
"""Rewards of a rung that hyper-parameters are weighed on, an even choice of all."""
USUAL_SPREAD = 0.03
"""Deviation of cells' rewards that is assumed as if three cells had shown it: what small searches have."""
USUAL_NOISE = 0.3
"""Share of it that is noise where nothing is known, as if three repeated trainings had shown it."""
PRIOR_COUNT = 3.0
SHARED, NOISES = (0.0, 0.4, 0.8), (0.08, 0.25, 0.5)
"""w and the share of noise considered at the lowest rung."""
SLOPES = (-0.1, 0.15, 0.4, 0.65, 0.9, 1.2, 1.6, 2.1)
OWN = (0.15, 0.3, 0.6, 0.9, 1.3, 1.9, 2.8)
PARTS = (0.3, 1.0)
"""b, τ and ν considered at the others, those two in the lowest rung's deviations and variance of noise."""
UNLIKELY, NEGLIGIBLE = 0.02, 0.002
"""Weights, as parts of the greatest, below which hyper-parameters of the lowest rung and of the others are not averaged over."""
AT_ONCE = 2_000_000
"""Numbers of a covariance that are computed at once, of several models."""
OFFSET = 4.0
"""Prior variance of a rung's mean about the centre of its rewards, in squared deviations."""
FALSE = 0.01
"""Share of rewards that are taken for possibly false."""
TAIL = 6.0
"""Degrees of freedom of the tail that a true reward may come from (Student's t)."""
LEAST_WEIGHT = 1e-5
INCREDIBLE = 4.0
"""Deviations above what is believed beyond which a reward is not."""
INCONSISTENT = 6.0
"""Times the usual variance of noise beyond which two rewards of one cell are not both true: noise is beyond it once in 70."""
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
    """Hyper-parameters of one rung: w, b, and τ² and ν in squared rewards; the logarithm of their prior."""

    shared: float
    slope: float
    own: float
    noise: float
    prior: float


@dataclass(frozen=True)
class _Scale:
    """Of one rung's rewards: centre, deviation, squared deviation of repeated trainings, how many of those, and a floor of it."""

    centre: float
    deviation: float
    repeats: float
    count: int
    floor: float

    def noise(self, supposed: float) -> float:
        """The variance of noise, one being supposed as if a few repeated trainings had shown it."""
        return max((PRIOR_COUNT * supposed + self.count * self.repeats) / (PRIOR_COUNT + self.count), self.floor, 1e-9)


class _Worth(NamedTuple):
    """What m cells are believed to be worth at a rung: mean and variance [m], and covariance with the c cells that climb [m, c]."""

    mean: Floats
    variance: Floats
    cross: Floats


def beliefs(
    space: SearchSpace, observations: Sequence[Observation], rung: int, images: Mapping[int, int] | None = None
) -> dict[Actions, Belief]:
    """What is believed of every cell observed, at one rung, by its rewards and those of lower rungs.

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
    cells = list(dict.fromkeys(one.actions for one in observations))
    worth = _worth(space, cells, observations, rung, images or {})
    deviation = np.sqrt(worth.variance)
    reach = stdtrit(PRIOR_COUNT + len(cells) - 1, 0.975)  # the spread is itself estimated: Student's quantile
    low, high = (np.clip(worth.mean + side * reach * deviation, 0, 1) for side in (-1, 1))
    rows = zip(cells, np.clip(worth.mean, 0, 1).tolist(), low.tolist(), high.tolist(), deviation.tolist(), strict=True)
    return {actions: Belief(*numbers) for actions, *numbers in rows}


def _worth(space: SearchSpace, cells: list[Actions], observations: Sequence[Observation], rung: int, images: Mapping[int, int]) -> _Worth:
    """From rung to rung with each of the likely hyper-parameters of the lowest; these are averaged over in the end."""
    places = {actions: place for place, actions in enumerate(cells)}
    known = sorted({one.rung for one in observations})
    rungs = known[: known.index(rung) + 1] if rung in known else known
    climb = np.array(sorted({places[one.actions] for one in observations if one.rung in rungs[1:]}), dtype=np.int64)
    nothing = _Worth(np.zeros(len(cells)), np.zeros(len(cells)), np.zeros((len(cells), len(climb))))
    steps, usual, alike = [], USUAL_SPREAD, _alike(space, cells)
    for here in rungs:
        those = [one for one in observations if one.rung == here]
        cell, rewards = np.array([places[one.actions] for one in those]), np.array([one.reward for one in those], dtype=np.float64)
        steps.append(_Step(nothing, climb, cell, rewards, _scale(rewards, cell, usual, images.get(here)), alike))
        usual = steps[0].scale.deviation
    starts, evidence, _ = steps[0].likely(steps[0].lowest_models(), UNLIKELY)
    trust, found = steps[0].trusted(starts[0]), []
    for place, start in enumerate(starts):
        worth = steps[0].told([start], evidence[:1], trust)
        for above in steps[1:]:
            step = replace(above, below=worth)
            models, weights, total = step.likely(step.models(start), NEGLIGIBLE)
            worth = step.told(models, weights, step.trusted(models[0]))
            evidence[place] += total
        found.append(worth)
    return _mixed([_Worth(*map(np.stack, zip(*found, strict=True)))], evidence, climb)


@dataclass(frozen=True)
class _Step:
    """The n rewards of one rung, and what is believed of all m cells from the rung below it."""

    below: _Worth
    """Of the lowest rung: 0, for sure."""
    climb: Integers
    """The cells that are at rungs above the lowest [c]."""
    cell: Integers
    """Which cell each reward is of [n]."""
    rewards: Floats
    scale: _Scale
    alike: Floats | None
    """The surrogate's kernel between cells [m, m]; None where they are too few."""

    # ------------------------------------------------------------------------------------------------ hyper-parameters

    def lowest_models(self) -> list[_Model]:
        """At the lowest rung the spread of the rewards is that of all cells: it is divided into worth and noise."""
        variance, found = self.scale.deviation**2, []
        several = len(self.rewards) >= 2 * PRIOR_COUNT
        for shared, share in product(SHARED if self.alike is not None else SHARED[:1], NOISES if several else (USUAL_NOISE,)):
            noise = min(self.scale.noise(share * variance), 0.95 * variance)
            found.append(_Model(shared, 0.0, variance - noise, noise, _normal(np.log(share / USUAL_NOISE), 1)))
        return found

    def models(self, lowest: _Model) -> list[_Model]:
        """Above it, the spread is that of a selection: all is said in the spread and the noise of the lowest rung."""
        variance, found = lowest.own + lowest.noise, []
        for slope, own, part in product(SLOPES, OWN, PARTS):
            noise, prior = self.scale.noise(part * lowest.noise), _normal(slope - 0.8, 0.5) + _normal(np.log(own / 0.7), 0.7)
            found.append(_Model(lowest.shared, slope, own**2 * variance, noise, prior))
        return found

    def likely(self, models: Sequence[_Model], negligible: float) -> tuple[list[_Model], Floats, float]:
        """The likelier of some models, the likeliest first; the logarithms of their evidence, and of that of all."""
        evidence = self._part()._evidence(models)
        order = np.argsort(-evidence, kind="stable")
        kept = order[evidence[order] > evidence.max() + np.log(negligible)]
        return [models[i] for i in kept], evidence[kept], float(logsumexp(evidence))

    def _part(self) -> "_Step":
        """At most ``CHOSEN_ON`` of the rewards."""
        if len(self.rewards) <= CHOSEN_ON:
            return self
        some = np.linspace(0, len(self.rewards) - 1, CHOSEN_ON).astype(np.int64)
        return replace(self, cell=self.cell[some], rewards=self.rewards[some])

    def _evidence(self, models: Sequence[_Model]) -> Floats:
        """Log marginal likelihood of the rewards by each of k models, the rung's mean integrated out, with the prior [k]."""
        reach = 4 * self.scale.deviation
        values = np.clip(self.rewards, self.scale.centre - reach, self.scale.centre + reach)
        blocks = {shared: self._blocks(shared, self.cell, self.cell) for shared in {model.shared for model in models}}
        noise = np.eye(len(values))
        covariances = [self._covariance(model, *blocks[model.shared]) + model.noise * noise for model in models]
        apart = values - self._expected(models)[:, self.cell]
        factors = np.linalg.cholesky(np.stack(covariances))  # [k, n, n]
        halves = np.linalg.solve(factors, apart[:, :, None])[:, :, 0]
        determinants = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
        evidence: Floats = np.array([model.prior for model in models]) - 0.5 * (halves**2).sum(1) - determinants
        return evidence

    # ------------------------------------------------------------------------------------------------ the process

    def _expected(self, models: Sequence[_Model]) -> Floats:
        """The prior mean of every cell's worth here, by each of k models [k, m]."""
        slopes = np.array([model.slope for model in models])[:, None]
        expected: Floats = self.scale.centre + slopes * (self.below.mean - self.below.mean[self.cell].mean())
        return expected

    def _blocks(self, shared: float, rows: Integers, cells: Integers) -> tuple[Floats, Floats]:
        """What is alike in some cells and others, which climb unless this is the lowest rung, and their covariance below [r, k]."""
        between = (1 - shared) * (rows[:, None] == cells)
        if self.alike is not None and shared:
            between = between + shared * self.alike[np.ix_(rows, cells)]
        if not len(self.climb):
            return between, np.zeros_like(between)
        places = np.minimum(np.searchsorted(self.climb, cells), len(self.climb) - 1)  # nothing is believed below the lowest rung
        return between, self.below.cross[np.ix_(rows, places)]

    def _covariance(self, model: _Model, between: Floats, below: Floats) -> Floats:
        """The prior covariance of cells' worth here, of blocks of them."""
        covariance: Floats = OFFSET * self.scale.deviation**2 + model.own * between + model.slope**2 * below
        return covariance

    def told(self, models: Sequence[_Model], evidence: Floats, trust: Floats) -> _Worth:
        """What every cell is believed to be worth here, by some models of one w together.

        ``evidence`` is its logarithm [k]; the rewards count for as much as they are trusted [n].
        """
        blocks = self._blocks(models[0].shared, np.arange(len(self.below.mean)), np.concatenate([self.cell, self.climb]))
        most = max(1, AT_ONCE // blocks[0].size)
        parts = (self._posteriors(models[start : start + most], blocks, trust) for start in range(0, len(models), most))
        return _mixed(parts, evidence, self.climb)

    def _posteriors(self, models: Sequence[_Model], blocks: tuple[Floats, Floats], trust: Floats) -> _Worth:
        """By each of k models: mean and variance [k, m], and covariance with the cells that climb [k, m, c]."""
        count = len(self.rewards)
        slope, own, noise = (np.array([getattr(model, name) for model in models]) for name in ("slope", "own", "noise"))
        expected = self._expected(models)
        offset = OFFSET * self.scale.deviation**2
        covariance = offset + own[:, None, None] * blocks[0] + (slope**2)[:, None, None] * blocks[1]
        cross = covariance[:, :, :count]
        factor = np.linalg.cholesky(cross[:, self.cell] + noise[:, None, None] * np.diag(1 / trust))
        told = np.concatenate([cross.swapaxes(1, 2), (self._values() - expected[:, self.cell])[:, :, None]], axis=2)
        half = np.linalg.solve(factor, told)  # [k, n, m + 1]
        back = half[:, :, :-1].swapaxes(1, 2)
        mean = expected + (back @ half[:, :, -1:])[:, :, 0]
        before = offset + own[:, None] + (slope**2)[:, None] * self.below.variance
        variance = np.maximum(before - (back**2).sum(2), 1e-12)
        return _Worth(mean, variance, covariance[:, :, count:] - back @ half[:, :, self.climb])

    def _values(self) -> Floats:
        """The rewards, none of them further below the others than four deviations."""
        return np.maximum(self.rewards, self.scale.centre - 4 * self.scale.deviation)

    def trusted(self, model: _Model) -> Floats:
        """How far each reward is believed, in (0, 1]: by its distance above what all the others say of it (left out: equation 5.12)."""
        above = self._values() - self._expected([model])[0, self.cell]
        latent, trust = self._covariance(model, *self._blocks(model.shared, self.cell, self.cell)), np.ones(len(above))
        for _ in range(4):
            factor = np.linalg.cholesky(latent + np.diag(model.noise / trust))
            inverse = cho_solve((factor, True), np.eye(len(above)), check_finite=False)
            trust = _trust(inverse @ above, np.diag(inverse), model.noise, trust)
        return trust


def _mixed(found: Iterable[_Worth], evidence: Floats, climb: Integers) -> _Worth:
    """The mean and the covariances of a mixture, by the evidence for each of its k parts; they come several together, and are not kept."""
    mean, variance, cross = np.zeros(()), np.zeros(()), np.zeros(())
    weights, place = np.exp(evidence - logsumexp(evidence)), 0
    for parts in found:
        some = weights[place : (place := place + len(parts.mean))]
        mean = mean + some @ parts.mean
        variance = variance + some @ (parts.variance + parts.mean**2)
        products = parts.cross + parts.mean[:, :, None] * parts.mean[:, None, climb]
        cross = cross + np.tensordot(some, products, 1)
    return _Worth(mean, np.maximum(variance - mean**2, 1e-12), cross - mean[:, None] * mean[climb])


def _trust(weighted: Floats, precision: Floats, noise: float, trust: Floats) -> Floats:
    """One step to how far each reward is believed, from inverse covariance times rewards, and the diagonal of that [n]."""
    variance = 1 / precision
    above = weighted * variance
    deviation = np.sqrt(np.maximum(variance - noise / trust + noise, 1e-12))  # as if it were a true one
    true = _student(np.maximum(above, 0) / deviation) / deviation
    believed = (1 - FALSE) * true / ((1 - FALSE) * true + FALSE)
    typical = (1 - FALSE) * _student(np.zeros(1))[0] / deviation
    believed = np.minimum(believed * (typical + FALSE) / typical, 1.0)  # one that is as expected is believed wholly
    return np.where(above > 0, np.maximum(believed, LEAST_WEIGHT), 1.0)


def _scale(rewards: Floats, cells: Integers, usual: float, images: int | None) -> _Scale:
    """Robust centre and spread, a usual spread counted in as if a few cells had shown it, and what repeated trainings say."""
    centre = float(np.median(rewards))
    spread = 1.4826 * float(np.median(np.abs(rewards - centre)))
    count = len(np.unique(cells))
    variance = (PRIOR_COUNT * usual**2 + (count - 1) * spread**2) / (PRIOR_COUNT + count - 1)
    repeats, trainings = _repeats(rewards, cells, variance)
    floor = 0.0 if images is None else max(centre * (1 - centre), 1 / images) / images
    return _Scale(centre, float(np.sqrt(variance)), repeats, trainings, floor)


def _repeats(rewards: Floats, cells: Integers, variance: float) -> tuple[float, int]:
    """The variance of repeated trainings of one cell, and how many there were beyond the first.

    Of rewards of one cell that disagree widely one is false: that is not noise, and the worst cell is left out where it stands out so.
    """
    again = [rewards[cells == cell] for cell in np.unique(cells)] if len(np.unique(cells)) < len(cells) else []
    found = sorted((float(np.minimum((one - np.median(one)) ** 2, variance).sum()), len(one) - 1) for one in again if len(one) > 1)
    if found:
        (worst, count), others = max(found, key=lambda one: one[0] / one[1]), found.copy()
        others.remove((worst, count))
        usual = (PRIOR_COUNT * USUAL_NOISE * variance + sum(one for one, _ in others)) / (PRIOR_COUNT + sum(more for _, more in others))
        found = others if worst / count > INCONSISTENT * usual else found
    freedom = sum(more for _, more in found)
    return sum(one for one, _ in found) / max(freedom, 1), freedom


def _alike(space: SearchSpace, cells: Sequence[Actions]) -> Floats | None:
    if len(cells) < ENOUGH:
        return None
    encoder = Encoder(space.decisions, partial(feature_table, space))
    rows = encoder.encode(np.array(cells))
    hyper = KERNEL if encoder.has_features(rows) else replace(KERNEL, features=0.0)
    return encoder.kernel(rows, rows, hyper)


def _normal(value: float, deviation: float) -> float:
    """Logarithm of a normal density about 0, up to a constant."""
    return float(-0.5 * (value / deviation) ** 2)


def _student(z: Floats) -> Floats:
    """Density of Student's t at z."""
    constant = np.exp(gammaln((TAIL + 1) / 2) - gammaln(TAIL / 2)) / np.sqrt(TAIL * np.pi)
    density: Floats = constant * (1 + z * z / TAIL) ** (-(TAIL + 1) / 2)
    return density
