"""The surrogate: a Gaussian process on action sequences that guesses rewards, so that a controller can screen what it proposes.

Sizes: n points told, M candidates, P pending, D decisions, K features. The process is that of Rasmussen and Williams (2006), chapter 2,
with SciPy's Cholesky routines; its kernel between two architectures is

    k(x, y) = (1 - w) · (½ exp(-h(x, y) / (D · reach)) + ½ exp(-|c(x) - c(y)|² / (2 · D · spread²)))
            + w · exp(-|f(x) - f(y)|² / (2 · K · length²))
            + level + slope · e(x) · e(y)

with h the number of decisions that differ, c(x) how often x takes every choice, counted over all decisions with the same
choices (what is good in one place is likely to be good in another), and f(x) what the search space says that x is like, standardised.

The last line is there where earlier searches let one expect e(x) of x: its mean is then trust · e(x), and how far rewards follow it, and
from which level, is learnt (a linear model with normal priors on both coefficients, Rasmussen and Williams, section 2.7).

A reward is known at a rung (0 are a search's own children, higher ones longer trainings). The process is one over both: between
architectures at different rungs k is multiplied by ``relation``, as if a share of what makes an architecture good were common to all
rungs and the rest each rung's own (the coregionalisation of Álvarez et al. 2012, arXiv 1106.6251, section 4.2.2, of equal correlations).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from search_spaces.space import Actions, Decision, check_actions

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Hyperparameters:
    """Of the kernel above; ``noise`` is the variance of a reward's noise, where the process itself has variance 1."""

    reach: float
    spread: float
    noise: float
    features: float = 0.0
    """The weight w of the features; 0 is a process that does not look at them."""
    length: float = 1.0


_PLAIN = tuple(Hyperparameters(*values) for values in product((0.2, 0.4, 0.8), (0.5, 1.0), (0.02, 0.1, 0.4)))
EXPECTED = (0.9, 2.0)
"""Weight and length of features where nothing says otherwise: cells alike in them have similar rewards, and far around."""
_FEATURED = (*product((0.3, 0.7), (0.5, 1.0, 2.0)), EXPECTED)
GRID = _PLAIN + tuple(replace(hyper, features=weight, length=length) for weight, length in _FEATURED for hyper in _PLAIN)
"""The hyper-parameters considered; which are used is for ``Surrogate._choose`` to say.
States name them by their place: new ones are added at the end."""
EVIDENCE = 4.0
"""By how much (natural logarithm) others must be likelier than ``EXPECTED``: the likelihood of a dozen rewards is greatest by chance for
features that hardly count or reach nowhere, and a search that begins so sees its first good cells' surroundings only."""
RELATIONS = (0.8, 0.5, 0.95)
"""Correlations between rungs considered; the first until rewards of two rungs are known."""
LUCK = 0.8
LEAST_SPREAD = 0.5
FIRST = GRID.index(Hyperparameters(0.4, 1.0, 0.1))
_EXPECTED_FIRST = len(_PLAIN) * (1 + _FEATURED.index(EXPECTED))
TRUST, SLOPE, LEVEL = 0.7, 0.25, 1.0
"""Mean and variance of how far rewards follow what earlier searches let one expect, and the variance of the level that they begin from."""
MOST_BEFORE = 50
"""Architectures of earlier searches that may lead, the best of them."""
USUAL = 512
"""Architectures drawn uniformly, by whose features all are standardised."""
REMEMBERED = 4096
"""Architectures whose features are remembered."""
GROWTH = 1.25
"""Hyper-parameters are chosen anew when there are so many times more points."""


Describe = Callable[[Integers], Floats]
"""The features of action sequences [N, D] -> [N, K], see ``search_spaces.space.feature_table``."""
Expect = Callable[[Integers], Floats]
"""What earlier searches let one expect of action sequences [N, D] -> [N], in deviations of their rewards."""


class Encoder:
    """Turns action sequences [N, D] into rows of one-hot columns, counts, what is expected of them, and standardised features.

    Args:
        decisions: of the space.
        describe: makes the features of the space's genotypes; None where it has none.
        measured: further features of some architectures, all equally many, such as zero-cost scores; others count as average.
        expect: says what earlier searches let one expect; None where there were none.
    """

    def __init__(
        self,
        decisions: Sequence[Decision],
        describe: Describe | None = None,
        measured: Mapping[Actions, Sequence[float]] | None = None,
        expect: Expect | None = None,
    ) -> None:
        sizes = [len(decision.choices) for decision in decisions]
        kinds = list(dict.fromkeys(decision.choices for decision in decisions))
        starts = np.concatenate([[0], np.cumsum([len(kind) for kind in kinds])])
        self.width, self.count_width = sum(sizes), int(starts[-1])
        self.furthest = 2 * sum(sum(decision.choices == kind for decision in decisions) ** 2 for kind in kinds)  # of squared distances
        self.offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self.fold = np.zeros((self.width, self.count_width), dtype=np.float32)  # one-hot -> counts
        for decision, offset in zip(decisions, self.offsets, strict=True):
            choices = np.arange(len(decision.choices))
            self.fold[offset + choices, starts[kinds.index(decision.choices)] + choices] = 1
        self._expect = expect
        self._end = self.width + self.count_width  # of what decisions make; then what is expected, then features
        self._features_from = self._end + (expect is not None)
        self._describe = describe
        self._known: dict[bytes, Floats] = {}  # derived
        if describe is not None:  # standardised by what is usual in the space: what has been told changes, and ends among the good
            usual = describe(np.random.default_rng(0).integers(0, np.array(sizes), (USUAL, len(sizes))))
            self._mean, self._scale = _standard(usual)
        self._measured = {} if measured is None else dict(measured)
        if self._measured:
            known = np.array(list(self._measured.values()), dtype=np.float64)
            mean, scale = _standard(known)
            self._measured = dict(zip(self._measured, (known - mean) * scale, strict=True))
            self._unmeasured = np.zeros(known.shape[1])

    def encode(self, actions: Integers, features: bool = True) -> Rows:
        """[N, D] -> [N, one-hot columns + count columns + what is expected + features, unless nobody will look at those]."""
        rows = np.zeros((len(actions), self.width), dtype=np.float32)
        rows[np.arange(len(actions))[:, None], self.offsets + actions] = 1
        expected = [] if self._expect is None else [self._expect(actions).astype(np.float32)[:, None]]
        parts = [rows, rows @ self.fold, *expected, *([self._features(actions)] if features else [])]
        return np.concatenate(parts, axis=1)

    def _features(self, actions: Integers) -> Rows:
        """Standardised features [N, K], so scaled that squared distances are means over them."""
        parts = [np.zeros((len(actions), 0))]
        if self._describe is not None:
            parts.append((self._described(actions) - self._mean) * self._scale)
        if self._measured:
            found = [self._measured.get(tuple(sequence), self._unmeasured) for sequence in actions.tolist()]
            parts.append(np.array(found).reshape(len(actions), -1))
        features = np.concatenate(parts, axis=1)
        scaled: Rows = (features / np.sqrt(max(features.shape[1], 1))).astype(np.float32)
        return scaled

    def _described(self, actions: Integers) -> Floats:
        """What ``describe`` says, remembered: the same proposals are pending at one ask after the other."""
        assert self._describe is not None
        keys = [row.tobytes() for row in np.ascontiguousarray(actions)]
        new = [place for place, key in enumerate(keys) if key not in self._known]
        if len(self._known) > REMEMBERED:
            self._known = {key: self._known[key] for key in keys if key in self._known}
        if new:
            self._known.update(zip((keys[place] for place in new), self._describe(actions[new]), strict=True))
        return np.array([self._known[key] for key in keys]).reshape(len(keys), len(self._mean))

    @property
    def expects(self) -> bool:
        """Whether anything is expected of architectures before rewards are told."""
        return self._expect is not None

    def kernel(self, one: Rows, other: Rows, hyper: Hyperparameters) -> Floats:
        """The kernel between two sets of encoded sequences."""
        apart = self.features_apart(one, other) if hyper.features else None
        return self.mix(*self.distances(one, other), apart, hyper) + self.following(one, other)

    def following(self, one: Rows, other: Rows) -> Floats | float:
        """The kernel's last line, of what is expected; 0 where nothing is."""
        if self._expect is None:
            return 0.0
        product: Floats = np.outer(one[:, self._end], other[:, self._end]).astype(np.float64)
        return LEVEL + SLOPE * product

    def prior(self, rows: Rows) -> tuple[Floats, Floats]:
        """Mean and variance [N] of the process while nothing is told."""
        if self._expect is None:
            return np.zeros(len(rows)), np.ones(len(rows))
        expected = rows[:, self._end].astype(np.float64)
        return TRUST * expected, 1 + LEVEL + SLOPE * expected**2

    def distances(self, one: Rows, other: Rows) -> tuple[Integers, Integers]:
        """How many decisions differ, and the squared distance of the counts: whole numbers, exact in single precision."""
        decisions, end = len(self.offsets), self._end
        differing = decisions - one[:, : self.width] @ other[:, : self.width].T
        squared = _squared(one[:, self.width : end], other[:, self.width : end])
        return differing.astype(np.int64), squared.astype(np.int64)

    def mix(self, differing: Integers, squared: Integers, apart: Rows | None, hyper: Hyperparameters) -> Floats:
        """The kernel from distances. There are few different whole numbers: their exponentials are looked up."""
        decisions = len(self.offsets)
        alike = 0.5 * np.exp(-(np.arange(decisions + 1) / decisions) / hyper.reach)
        counted = 0.5 * np.exp(-(np.arange(self.furthest + 1) / decisions) / (2 * hyper.spread**2))
        mixed: Floats = alike.take(differing, mode="clip")
        mixed += counted.take(squared, mode="clip")
        if apart is None or not hyper.features:
            return mixed
        mixed *= 1 - hyper.features
        mixed += np.float32(hyper.features) * np.exp(apart * np.float32(-0.5 / hyper.length**2))  # in single precision: twice as fast
        return mixed

    def features_apart(self, one: Rows, other: Rows) -> Rows:
        """The mean over the features of their squared distance."""
        first = self._features_from
        return np.maximum(_squared(one[:, first:], other[:, first:]), 0)

    def has_features(self, rows: Rows) -> bool:
        """Whether there is anything to compare beside decisions."""
        return bool(rows.shape[1] > self._features_from)


def _standard(rows: Floats) -> tuple[Floats, Floats]:
    """Mean and inverse deviation of columns; 0 where all values are the same, which says nothing."""
    deviation = rows.std(0)
    return rows.mean(0), np.where(deviation > 1e-9, 1 / np.maximum(deviation, 1e-9), 0.0)


def _squared(a: Rows, b: Rows) -> Rows:
    distances: Rows = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)
    return distances


class Point(NamedTuple):
    """A reward told of an architecture, and the rung that it was trained at."""

    actions: Actions
    reward: float
    rung: int = 0


@dataclass(frozen=True)
class Fit:
    """A Gaussian process that has seen its points: what predictions need."""

    rows: Rows
    rungs: Integers
    factor: Floats
    weights: Floats
    hyper: Hyperparameters
    relation: float
    top: int
    """The highest rung of the points: predictions are for it."""
    means: Floats
    """Posterior means of the points' architectures at the top rung [n]."""


@dataclass(frozen=True)
class Prepared:
    """Candidates half-way to their scores."""

    fit: Fit
    rows: Rows
    half: Floats
    mean: Floats
    """Posterior means [M] at the top rung, on the scale of normal quantiles of the rewards."""
    variance: Floats
    """Posterior variances [M] while nothing is pending."""


class Surrogate:
    """Keeps the points it learns from, at most ``capacity``: beyond it the worst of the older half is forgotten.

    New points wait until a fiftieth as many as there are have come together; until then they count as pending.

    Args:
        decisions: of the space.
        capacity: the most points kept.
        start: the fewest points with which it is asked.
        describe: makes the features of the space's genotypes, see ``Encoder``.
        measured: further features of some architectures, see ``Encoder``. They are no part of its state.
    """

    def __init__(
        self,
        decisions: Sequence[Decision],
        capacity: int,
        start: int,
        describe: Describe | None = None,
        measured: Mapping[Actions, Sequence[float]] | None = None,
    ) -> None:
        self.decisions, self.capacity, self.start = decisions, capacity, start
        self._describe, self._measured = describe, measured
        self.encoder = Encoder(decisions, describe, measured)
        self.points: list[Point] = []
        self.fresh: list[Point] = []
        self.absorbed = 0
        """Points ever fitted: it changes exactly when the process does."""
        self.choice = FIRST
        self.relation = 0
        self.chosen_at = 0
        self.before: Integers = np.zeros((0, len(decisions)), dtype=np.int64)
        """The best architectures of earlier searches [B, D]."""
        self._fit: Fit | None = None  # derived

    @property
    def ready(self) -> bool:
        """Whether it knows enough to be asked: where earlier searches let one expect something, before the first reward."""
        return self.encoder.expects or len(self.points) >= self.start

    @property
    def told(self) -> set[Actions]:
        """The points' architectures."""
        return {point.actions for point in self.points}

    def begin_with(self, earlier: Sequence[Point]) -> None:
        """Expect of architectures what earlier trainings let one expect: at least three, those of every search in a rung of its own.

        What is expected is the posterior mean of a process of their own, at the highest of these rungs. It is no part of the state.
        """
        before = Surrogate(self.decisions, len(earlier), 1, self._describe)
        before.points = list(earlier)
        before._choose()
        self.choice = before.choice  # until it has rewards enough of its own to choose by
        self.encoder = Encoder(self.decisions, self._describe, self._measured, before.means)
        self.before = before.leaders(MOST_BEFORE)
        self._fit = None

    def add(self, actions: Actions, reward: float, rung: int = 0) -> None:
        """Learn one reward, of a training at a rung. Rewards are compared within their rung alone."""
        self.fresh.append(Point(actions, reward, rung))
        if len(self.fresh) < max(1, len(self.points) // 50):
            return
        for point in self.fresh:
            self.points.append(point)
            if len(self.points) > self.capacity:
                older = range(len(self.points) - self.capacity // 2)
                del self.points[min(older, key=lambda i: (self.points[i].rung, self.points[i].reward))]
        self.absorbed += len(self.fresh)
        self.fresh = []
        self._fit = None
        if len(self.points) >= max(self.start, GROWTH * self.chosen_at):
            self._choose()

    def fit(self) -> Fit:
        """The process, given all points."""
        if self._fit is None:
            hyper, relation = GRID[self.choice], RELATIONS[self.relation]
            rows, targets = self._training_set()
            rungs = self._rungs()
            top = int(rungs.max(initial=0))
            kernel = self.encoder.kernel(rows, rows, hyper)
            factor = np.linalg.cholesky(kernel * _related(rungs, rungs, relation) + hyper.noise * np.eye(len(rows)))
            weights = cho_solve((factor, True), targets, check_finite=False)
            means = self.encoder.prior(rows)[0] + (kernel * _related(np.full(len(rungs), top), rungs, relation)) @ weights
            self._fit = Fit(rows, rungs, factor.astype(np.float64, copy=False), weights, hyper, relation, top, means)
        return self._fit

    def prepare(self, candidates: Integers) -> Prepared:
        """What scoring candidates [M, D] needs that does not depend on what is pending."""
        fit = self.fit()
        rows, cross = self._crossed(fit, candidates)
        half = solve_triangular(fit.factor, cross, lower=True, check_finite=False)
        mean, variance = self.encoder.prior(rows)
        return Prepared(fit, rows, half, mean + cross.T @ fit.weights, variance - (half * half).sum(0))

    def means(self, candidates: Integers) -> Floats:
        """Posterior means [M] of candidates [M, D] alone, as ``prepare`` has them."""
        fit = self.fit()
        rows, cross = self._crossed(fit, candidates)
        mean: Floats = self.encoder.prior(rows)[0] + cross.T @ fit.weights
        return mean

    def _crossed(self, fit: Fit, candidates: Integers) -> tuple[Rows, Floats]:
        """Candidates [M, D] encoded, and the kernel between the points and them at the top rung [n, M]."""
        rows = self.encoder.encode(candidates, bool(fit.hyper.features))
        return rows, self._between(fit, fit.rows, fit.rungs, rows, np.full(len(rows), fit.top))

    def expected_improvement(self, prepared: Prepared, pending: Integers, rungs: Integers | None = None) -> Floats:
        """Expected improvement [M] over the best point's mean, in units of the process's deviation; never negative.

        What is pending [P, D] at its rungs [P] (the lowest unless given), and points not fitted yet, narrows the deviation around
        it and leaves the mean as it is, so that the next candidate looks elsewhere (Desautels et al. 2014, GP-BUCB).
        """
        rungs = np.zeros(len(pending), dtype=np.int64) if rungs is None else rungs
        if self.fresh:
            pending = np.concatenate([pending, np.array([point.actions for point in self.fresh])])
            rungs = np.concatenate([rungs, np.array([point.rung for point in self.fresh])])
        deviation = np.sqrt(np.maximum(self.variance(prepared, pending, rungs), 1e-9))
        z = (prepared.mean - self._incumbent(prepared.fit)) / deviation
        density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
        improvement: Floats = deviation * (z * ndtr(z) + density)
        return improvement

    def _incumbent(self, fit: Fit) -> float:
        """The best point's mean; before there is any, that of the best architecture of earlier searches."""
        return float((fit.means if len(fit.means) else self.means(self.before[:1])).max())

    def variance(self, prepared: Prepared, pending: Integers, rungs: Integers | None = None) -> Floats:
        """Posterior variance [M] of the candidates, given the points and that the pending ones [P, D] will be known at their rungs [P]."""
        if not len(pending):
            return prepared.variance
        fit = prepared.fit
        rungs = np.zeros(len(pending), dtype=np.int64) if rungs is None else rungs
        waiting, there = self.encoder.encode(pending, bool(fit.hyper.features)), np.full(len(prepared.rows), fit.top)
        cross = self._between(fit, fit.rows, fit.rungs, waiting, rungs)
        half = solve_triangular(fit.factor, cross, lower=True, check_finite=False)
        among = self._between(fit, waiting, rungs, waiting, rungs) - half.T @ half + fit.hyper.noise * np.eye(len(waiting))
        shared = self._between(fit, waiting, rungs, prepared.rows, there) - half.T @ prepared.half  # [P, M]
        gain = solve_triangular(np.linalg.cholesky(among), shared, lower=True, check_finite=False)
        variance: Floats = prepared.variance - (gain * gain).sum(0)
        return variance

    def leaders(self, count: int) -> Integers:
        """The architectures with the greatest posterior means [count, D], best first: of the points and of earlier searches."""
        actions = np.concatenate([self._actions(), self.before])
        order = np.argsort(-np.concatenate([self.fit().means, self.means(self.before)]), kind="stable")
        return np.array(list(dict.fromkeys(map(tuple, actions[order].tolist())))[:count])

    def _between(self, fit: Fit, one: Rows, one_rungs: Integers, other: Rows, other_rungs: Integers) -> Floats:
        """The kernel between architectures at their rungs."""
        kernel: Floats = self.encoder.kernel(one, other, fit.hyper)
        return kernel if not fit.top else kernel * _related(one_rungs, other_rungs, fit.relation)

    def _actions(self) -> Integers:
        return np.array([point.actions for point in self.points], dtype=np.int64).reshape(-1, len(self.decisions))

    def _rungs(self) -> Integers:
        return np.array([point.rung for point in self.points], dtype=np.int64)

    def _training_set(self) -> tuple[Rows, Floats]:
        """Encoded points and their targets, see ``_targets``, as far as they are not expected."""
        rows = self.encoder.encode(self._actions())
        return rows, _targets(self.points) - self.encoder.prior(rows)[0]

    def _choose(self) -> None:
        """Take the hyper-parameters of the greatest marginal likelihood.

        First those of decisions, with features as they are expected to count; then other weights and lengths of features, or none,
        where the rewards are evidence of them; then, where there are several rungs, how far what holds at one holds at the others.
        """
        rows, targets = self._training_set()
        rungs = self._rungs()
        apart = self.encoder.features_apart(rows, rows) if self.encoder.has_features(rows) else None
        distances, following = (*self.encoder.distances(rows, rows), apart), self.encoder.following(rows, rows)

        def likelihood(choice: int, relation: int) -> float:
            kernel = self.encoder.mix(*distances, GRID[choice]) + following
            if rungs.any():
                kernel = kernel * _related(rungs, rungs, RELATIONS[relation])
            factor = np.linalg.cholesky(kernel + GRID[choice].noise * np.eye(len(rungs))).astype(np.float64, copy=False)
            weights = cho_solve((factor, True), targets, check_finite=False)
            return float(-0.5 * targets @ weights - np.log(np.diag(factor)).sum())

        def likeliest(choices: Iterable[int], best: float = -np.inf, choice: int = 0) -> tuple[float, int]:
            return _greatest(((likelihood(choice, self.relation), choice) for choice in choices), best, choice)

        found, self.choice = likeliest(_beside(_EXPECTED_FIRST if apart is not None else 0))
        if apart is not None:
            stages = range(self.choice % len(_PLAIN), len(GRID), len(_PLAIN))
            best, other = likeliest(choice for choice in stages if choice != self.choice)
            best, other = likeliest(_beside(other), best, other)
            self.choice = other if best > found + EVIDENCE else self.choice
        if rungs.max() > rungs.min():
            _, self.relation = _greatest(((likelihood(self.choice, relation), relation) for relation in range(len(RELATIONS))), -np.inf)
        self.chosen_at = len(rows)

    def state_dict(self) -> dict[str, Any]:
        """The points and the chosen hyper-parameters."""
        return {
            "points": [_pack(point) for point in self.points],
            "fresh": [_pack(point) for point in self.fresh],
            "absorbed": self.absorbed,
            "choice": self.choice,
            "relation": self.relation,
            "chosen_at": self.chosen_at,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, also before there were rungs. Raises ValueError where it does not fit."""
        try:
            points, fresh = ([_unpack(*packed) for packed in state[name]] for name in ("points", "fresh"))
            choice, chosen_at = int(state["choice"]), int(state["chosen_at"])
            absorbed, relation = int(state["absorbed"]), int(state.get("relation", 0))
        except (KeyError, TypeError, AttributeError) as problem:
            raise ValueError(f"not the state of a surrogate: {problem!r}") from None
        for point in (*points, *fresh):
            check_actions(self.decisions, point.actions)
        if not (0 <= choice < len(GRID) and 0 <= relation < len(RELATIONS)):
            raise ValueError(f"not the state of this surrogate: hyper-parameters {choice}, {relation}")
        self.points, self.fresh, self.absorbed = points, fresh, absorbed
        self.choice, self.relation, self.chosen_at, self._fit = choice, relation, chosen_at, None


def _pack(point: Point) -> list[Any]:
    return [list(point.actions), point.reward, *([point.rung] if point.rung else [])]


def _unpack(actions: Sequence[int], reward: float, rung: int = 0) -> Point:
    return Point(tuple(int(action) for action in actions), float(reward), int(rung))


def _beside(choice: int) -> range:
    """The hyper-parameters with the same features."""
    first = choice - choice % len(_PLAIN)
    return range(first, first + len(_PLAIN))


def _greatest(found: Iterable[tuple[float, int]], best: float, choice: int = 0) -> tuple[float, int]:
    """The greatest number and what it is of; the first of equal ones."""
    for number, candidate in found:
        if number > best + 1e-9:
            best, choice = number, candidate
    return best, choice


def _related(one: Integers, other: Integers, relation: float) -> Floats:
    """What the kernel between architectures is multiplied by for their rungs."""
    factor: Floats = np.where(one[:, None] == other, 1.0, relation)
    return factor


def _targets(points: Sequence[Point]) -> Floats:
    """Normal quantiles of the rewards, rung by rung: only the order within a rung matters.

    Higher rungs are of the best of the lower ones. So their quantiles are laid where the same architectures' lower targets lie,
    drawn in a little because whoever is chosen for a reward was lucky too.
    """
    targets = np.zeros(len(points))
    rungs = np.array([point.rung for point in points])
    below: dict[Actions, float] = {}
    for rung in sorted(set(rungs.tolist())):
        here = np.flatnonzero(rungs == rung).tolist()
        ranks = rankdata([points[i].reward for i in here])
        targets[here] = ndtri((ranks - 0.5) / len(ranks))
        known = [below[points[i].actions] for i in here if points[i].actions in below]
        if known:
            targets[here] = LUCK * np.mean(known) + max(float(np.std(known)), LEAST_SPREAD) * targets[here]
        below |= {points[i].actions: float(targets[i]) for i in here}
    return targets
