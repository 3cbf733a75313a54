"""The surrogate: a Gaussian process on action sequences that guesses rewards, so that a controller can screen what it proposes.

Sizes: n points told, M candidates, P pending, D decisions, K features. The process is that of Rasmussen and Williams (2006), chapter 2,
with SciPy's Cholesky routines; its kernel between two architectures is

    k(x, y) = (1 - w) · (½ exp(-h(x, y) / (D · reach)) + ½ exp(-|c(x) - c(y)|² / (2 · D · spread²))) + w · exp(-|f(x) - f(y)|² / (2 · K · length²))

with h the number of decisions that differ, c(x) how often x takes every choice, counted over all decisions with the same
choices (what is good in one place is likely to be good in another), and f(x) what the search space says that x is like, standardised.

A reward is known at a rung (0 are a search's own children, higher ones longer trainings). The process is one over both: between
architectures at different rungs k is multiplied by ``relation``, as if a share of what makes an architecture good were common to all
rungs and the rest each rung's own (the coregionalisation of Álvarez et al. 2012, arXiv 1106.6251, section 4.2.2, of equal correlations).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata, spearmanr

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
_FEATURED = tuple(product((0.3, 0.7), (0.5, 1.0, 2.0)))
GRID = _PLAIN + tuple(replace(hyper, features=weight, length=length) for weight, length in _FEATURED for hyper in _PLAIN)
"""The hyper-parameters considered; of those looked at, the one with the greatest marginal likelihood is used (see ``Surrogate._choose``).
States name them by their place: new ones are added at the end."""
FIRST = GRID.index(Hyperparameters(0.4, 1.0, 0.1))
USUAL = 512
"""Architectures drawn uniformly, by whose features all are standardised."""
GROWTH = 1.25
"""Hyper-parameters are chosen anew when there are so many times more points."""
LEAST_TRUST = 0.15
"""Rank correlation of left-out rewards with their predictions below which the surrogate is not asked."""


Describe = Callable[[Integers], Floats]
"""The features of action sequences [N, D] -> [N, K], see ``search_spaces.space.feature_table``."""


class Encoder:
    """Turns action sequences [N, D] into rows of one-hot columns, counts and standardised features.

    Args:
        decisions: of the space.
        describe: makes the features of the space's genotypes; None where it has none.
        measured: further features of some architectures, all equally many, such as zero-cost scores: what is not among them counts as average.
    """

    def __init__(
        self,
        decisions: Sequence[Decision],
        describe: Describe | None = None,
        measured: Mapping[Actions, Sequence[float]] | None = None,
    ) -> None:
        sizes = [len(decision.choices) for decision in decisions]
        kinds = list(dict.fromkeys(decision.choices for decision in decisions))
        starts = np.concatenate([[0], np.cumsum([len(kind) for kind in kinds])])
        self.width, self.count_width = sum(sizes), int(starts[-1])
        self.offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self.fold = np.zeros((self.width, self.count_width), dtype=np.float32)  # one-hot -> counts
        for decision, offset in zip(decisions, self.offsets, strict=True):
            choices = np.arange(len(decision.choices))
            self.fold[offset + choices, starts[kinds.index(decision.choices)] + choices] = 1
        self._describe = describe
        if describe is not None:  # standardised by what is usual in the space: what has been told changes, and ends among the good
            usual = describe(np.random.default_rng(0).integers(0, np.array(sizes), (USUAL, len(sizes))))
            self._mean, self._scale = _standard(usual)
        self._measured = {} if measured is None else dict(measured)
        if self._measured:
            known = np.array(list(self._measured.values()), dtype=np.float64)
            mean, scale = _standard(known)
            self._measured = dict(zip(self._measured, (known - mean) * scale, strict=True))
            self._unmeasured = np.zeros(known.shape[1])

    def encode(self, actions: Integers) -> Rows:
        """[N, D] -> [N, one-hot columns + count columns + features]."""
        rows = np.zeros((len(actions), self.width), dtype=np.float32)
        rows[np.arange(len(actions))[:, None], self.offsets + actions] = 1
        return np.concatenate([rows, rows @ self.fold, self._features(actions)], axis=1)

    def _features(self, actions: Integers) -> Rows:
        """Standardised features [N, K], so scaled that squared distances are means over them."""
        parts = [np.zeros((len(actions), 0))]
        if self._describe is not None and len(actions):
            parts.append((self._describe(actions) - self._mean) * self._scale)
        if self._measured:
            found = [self._measured.get(tuple(sequence), self._unmeasured) for sequence in actions.tolist()]
            parts.append(np.array(found).reshape(len(actions), -1))
        features = np.concatenate(parts, axis=1)
        scaled: Rows = (features / np.sqrt(max(features.shape[1], 1))).astype(np.float32)
        return scaled

    def kernel(self, one: Rows, other: Rows, hyper: Hyperparameters) -> Floats:
        """The kernel between two sets of encoded sequences."""
        apart = self.features_apart(one, other) if hyper.features else None
        return _mix(*self.distances(one, other), apart, hyper)

    def distances(self, one: Rows, other: Rows) -> tuple[Floats, Floats]:
        """Per decision: how many differ, and the squared distance of the counts."""
        decisions, end = len(self.offsets), self.width + self.count_width
        differing = decisions - one[:, : self.width] @ other[:, : self.width].T
        squared = _squared(one[:, self.width : end], other[:, self.width : end])
        return differing.astype(np.float64) / decisions, squared.astype(np.float64) / decisions

    def features_apart(self, one: Rows, other: Rows) -> Floats:
        """The mean over the features of their squared distance."""
        end = self.width + self.count_width
        return np.maximum(_squared(one[:, end:], other[:, end:]), 0).astype(np.float64)

    def has_features(self, rows: Rows) -> bool:
        """Whether there is anything to compare beside decisions."""
        return rows.shape[1] > self.width + self.count_width


def _standard(rows: Floats) -> tuple[Floats, Floats]:
    """Mean and inverse deviation of columns; 0 where all values are the same, which says nothing."""
    deviation = rows.std(0)
    return rows.mean(0), np.where(deviation > 1e-9, 1 / np.maximum(deviation, 1e-9), 0.0)


def _squared(a: Rows, b: Rows) -> Rows:
    distances: Rows = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)
    return distances


def _mix(differing: Floats, squared: Floats, apart: Floats | None, hyper: Hyperparameters) -> Floats:
    mixed: Floats = 0.5 * np.exp(-differing / hyper.reach) + 0.5 * np.exp(-squared / (2 * hyper.spread**2))
    if apart is None or not hyper.features:
        return mixed
    return (1 - hyper.features) * mixed + hyper.features * np.exp(-apart / (2 * hyper.length**2))


@dataclass(frozen=True)
class Fit:
    """A Gaussian process that has seen its points: what predictions need."""

    rows: Rows
    factor: Floats
    weights: Floats
    hyper: Hyperparameters
    means: Floats
    """Posterior means of the points [n]."""


@dataclass(frozen=True)
class Prepared:
    """Candidates half-way to their scores."""

    fit: Fit
    rows: Rows
    half: Floats
    mean: Floats
    """Posterior means [M], on the scale of normal quantiles of the rewards."""
    variance: Floats
    """Posterior variances [M] while nothing is pending."""


class Surrogate:
    """Keeps the points it learns from, at most ``capacity``: beyond it the worst of the older half is forgotten.

    New points wait until a fiftieth as many as there are have come together; until then they count as pending.
    """

    def __init__(self, decisions: Sequence[Decision], capacity: int, start: int) -> None:
        self.decisions, self.capacity, self.start = decisions, capacity, start
        self.encoder = Encoder(decisions)
        self.points: list[tuple[Actions, float]] = []
        self.fresh: list[tuple[Actions, float]] = []
        self.absorbed = 0
        """Points ever fitted: it changes exactly when the process does."""
        self.choice = FIRST
        self.chosen_at = 0
        self.trust = 0.0
        self._fit: Fit | None = None  # derived

    @property
    def ready(self) -> bool:
        """Whether it knows enough to be asked."""
        return len(self.points) >= self.start and self.trust >= LEAST_TRUST

    def add(self, actions: Actions, reward: float) -> None:
        """Learn one reward."""
        self.fresh.append((actions, reward))
        if len(self.fresh) < max(1, len(self.points) // 50):
            return
        for point in self.fresh:
            self.points.append(point)
            if len(self.points) > self.capacity:
                older = range(len(self.points) - self.capacity // 2)
                del self.points[min(older, key=lambda i: self.points[i][1])]
        self.absorbed += len(self.fresh)
        self.fresh = []
        self._fit = None
        if len(self.points) >= max(self.start, GROWTH * self.chosen_at):
            self._choose()

    def fit(self) -> Fit:
        """The process, given all points."""
        if self._fit is None:
            rows, targets = self._training_set()
            kernel = self.encoder.kernel(rows, rows, GRID[self.choice])
            factor = np.linalg.cholesky(kernel + GRID[self.choice].noise * np.eye(len(rows)))
            weights = cho_solve((factor, True), targets, check_finite=False)
            self._fit = Fit(rows, factor.astype(np.float64, copy=False), weights, GRID[self.choice], kernel @ weights)
        return self._fit

    def prepare(self, candidates: Integers) -> Prepared:
        """What scoring candidates [M, D] needs that does not depend on what is pending."""
        fit, rows = self.fit(), self.encoder.encode(candidates)
        cross = self.encoder.kernel(fit.rows, rows, fit.hyper)  # [n, M]
        half = solve_triangular(fit.factor, cross, lower=True, check_finite=False)
        return Prepared(fit, rows, half, cross.T @ fit.weights, 1.0 - (half * half).sum(0))

    def expected_improvement(self, prepared: Prepared, pending: Integers) -> Floats:
        """Expected improvement [M] over the best point's mean, in units of the process's deviation; never negative.

        What is pending [P, D] (and points not fitted yet) narrows the deviation around it and leaves the mean as it is,
        so that the next candidate looks elsewhere (Desautels et al. 2014, GP-BUCB).
        """
        if self.fresh:
            pending = np.concatenate([pending, np.array([actions for actions, _ in self.fresh])])
        deviation = np.sqrt(np.maximum(self.variance(prepared, pending), 1e-9))
        z = (prepared.mean - prepared.fit.means.max()) / deviation
        density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
        improvement: Floats = deviation * (z * ndtr(z) + density)
        return improvement

    def variance(self, prepared: Prepared, pending: Integers) -> Floats:
        """Posterior variance [M] of the candidates, given the points and that the pending ones [P, D] will be known."""
        if not len(pending):
            return prepared.variance
        fit, waiting = prepared.fit, self.encoder.encode(pending)
        half = solve_triangular(fit.factor, self.encoder.kernel(fit.rows, waiting, fit.hyper), lower=True, check_finite=False)
        among = self.encoder.kernel(waiting, waiting, fit.hyper) - half.T @ half + fit.hyper.noise * np.eye(len(waiting))
        shared = self.encoder.kernel(waiting, prepared.rows, fit.hyper) - half.T @ prepared.half  # [P, M]
        gain = solve_triangular(np.linalg.cholesky(among), shared, lower=True, check_finite=False)
        variance: Floats = prepared.variance - (gain * gain).sum(0)
        return variance

    def leaders(self, count: int) -> Integers:
        """The points with the greatest posterior means [count, D], best first."""
        order = np.argsort(-self.fit().means, kind="stable")[:count]
        return np.array([self.points[i][0] for i in order])

    def _training_set(self) -> tuple[Rows, Floats]:
        """Encoded points and their rewards' normal quantiles: only the order of rewards matters."""
        rows = self.encoder.encode(np.array([actions for actions, _ in self.points]))
        ranks = rankdata([reward for _, reward in self.points])
        return rows, ndtri((ranks - 0.5) / len(ranks))

    def _choose(self) -> None:
        """Take the hyper-parameters of the greatest marginal likelihood, and measure what the surrogate is worth with them."""
        rows, targets = self._training_set()
        distances = self.encoder.distances(rows, rows)
        best = -np.inf
        for choice, hyper in enumerate(_PLAIN):
            factor = np.linalg.cholesky(_mix(*distances, None, hyper) + hyper.noise * np.eye(len(rows)))
            weights = cho_solve((factor, True), targets, check_finite=False)
            likelihood = -0.5 * targets @ weights - np.log(np.diag(factor)).sum()
            if likelihood > best + 1e-9:
                best, self.choice = likelihood, choice
                inverse = cho_solve((factor, True), np.eye(len(rows)), check_finite=False)
                left_out = targets - weights / np.diag(inverse)  # equation 5.12
                agreement = 0.0 if np.ptp(left_out) < 1e-9 or np.ptp(targets) < 1e-9 else spearmanr(left_out, targets)[0]
                self.trust = float(agreement)
        self.chosen_at = len(rows)

    def state_dict(self) -> dict[str, Any]:
        """The points and the chosen hyper-parameters."""
        return {
            "points": [[list(actions), reward] for actions, reward in self.points],
            "fresh": [[list(actions), reward] for actions, reward in self.fresh],
            "absorbed": self.absorbed,
            "choice": self.choice,
            "chosen_at": self.chosen_at,
            "trust": self.trust,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises ValueError where it does not fit."""
        try:
            points, fresh = (
                [(tuple(int(a) for a in actions), float(reward)) for actions, reward in state[name]] for name in ("points", "fresh")
            )
            choice, chosen_at, trust = int(state["choice"]), int(state["chosen_at"]), float(state["trust"])
            absorbed = int(state["absorbed"])
        except (KeyError, TypeError) as problem:
            raise ValueError(f"not the state of a surrogate: {problem!r}") from None
        for actions, _ in (*points, *fresh):
            check_actions(self.decisions, actions)
        if not 0 <= choice < len(GRID):
            raise ValueError(f"not the state of this surrogate: hyper-parameters {choice}")
        self.points, self.fresh, self.absorbed = points, fresh, absorbed
        self.choice, self.chosen_at, self.trust, self._fit = choice, chosen_at, trust, None
