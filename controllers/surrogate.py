"""The surrogate: a Gaussian process on action sequences that guesses rewards, so that a controller can screen what it proposes.

Sizes: n points told, M candidates, P pending, D decisions. The process is that of Rasmussen and Williams (2006), chapter 2, with
SciPy's Cholesky routines; its kernel is

    k(x, y) = ½ exp(-h(x, y) / (D · reach)) + ½ exp(-|c(x) - c(y)|² / (2 · D · spread²))

with h the number of decisions that differ and c(x) how often x takes every choice, counted over all decisions with the same
choices: what is good in one place is likely to be good in another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Hyperparameters:
    """Of the kernel above; ``noise`` is the variance of a reward's noise, where the process itself has variance 1."""

    reach: float
    spread: float
    noise: float


GRID = tuple(Hyperparameters(*values) for values in product((0.2, 0.4, 0.8), (0.5, 1.0), (0.02, 0.1, 0.4)))
"""The hyper-parameters considered; the one with the greatest marginal likelihood is used."""
FIRST = GRID.index(Hyperparameters(0.4, 1.0, 0.1))
GROWTH = 1.25
"""Hyper-parameters are chosen anew when there are so many times more points."""
LEAST_TRUST = 0.15
"""Rank correlation of left-out rewards with their predictions below which the surrogate is not asked."""


class Encoder:
    """Turns action sequences [N, D] into one-hot rows and into rows of counts."""

    def __init__(self, decisions: Sequence[Decision]) -> None:
        sizes = [len(decision.choices) for decision in decisions]
        kinds = list(dict.fromkeys(decision.choices for decision in decisions))
        starts = np.concatenate([[0], np.cumsum([len(kind) for kind in kinds])])
        self.width, self.count_width = sum(sizes), int(starts[-1])
        self.offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        self.fold = np.zeros((self.width, self.count_width), dtype=np.float32)  # one-hot -> counts
        for decision, offset in zip(decisions, self.offsets, strict=True):
            choices = np.arange(len(decision.choices))
            self.fold[offset + choices, starts[kinds.index(decision.choices)] + choices] = 1

    def encode(self, actions: Integers) -> NDArray[np.float32]:
        """[N, D] -> [N, one-hot columns + count columns]."""
        rows = np.zeros((len(actions), self.width), dtype=np.float32)
        rows[np.arange(len(actions))[:, None], self.offsets + actions] = 1
        return np.concatenate([rows, rows @ self.fold], axis=1)

    def kernel(self, one: NDArray[np.float32], other: NDArray[np.float32], hyper: Hyperparameters) -> Floats:
        """The kernel between two sets of encoded sequences."""
        return _mix(*self.distances(one, other), hyper)

    def distances(self, one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Per decision: how many differ, and the squared distance of the counts."""
        decisions = len(self.offsets)
        differing = decisions - one[:, : self.width] @ other[:, : self.width].T
        a, b = one[:, self.width :], other[:, self.width :]
        squared = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * (a @ b.T)
        return differing.astype(np.float64) / decisions, squared.astype(np.float64) / decisions


def _mix(differing: Floats, squared: Floats, hyper: Hyperparameters) -> Floats:
    mixed: Floats = 0.5 * np.exp(-differing / hyper.reach) + 0.5 * np.exp(-squared / (2 * hyper.spread**2))
    return mixed


@dataclass(frozen=True)
class Fit:
    """A Gaussian process that has seen its points: what predictions need."""

    rows: NDArray[np.float32]
    factor: Floats
    weights: Floats
    hyper: Hyperparameters
    means: Floats
    """Posterior means of the points [n]."""


@dataclass(frozen=True)
class Prepared:
    """Candidates half-way to their scores."""

    fit: Fit
    rows: NDArray[np.float32]
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

    def _training_set(self) -> tuple[NDArray[np.float32], Floats]:
        """Encoded points and their rewards' normal quantiles: only the order of rewards matters."""
        rows = self.encoder.encode(np.array([actions for actions, _ in self.points]))
        ranks = rankdata([reward for _, reward in self.points])
        return rows, ndtri((ranks - 0.5) / len(ranks))

    def _choose(self) -> None:
        """Take the hyper-parameters of the greatest marginal likelihood, and measure what the surrogate is worth with them."""
        rows, targets = self._training_set()
        distances = self.encoder.distances(rows, rows)
        best = -np.inf
        for choice, hyper in enumerate(GRID):
            factor = np.linalg.cholesky(_mix(*distances, hyper) + hyper.noise * np.eye(len(rows)))
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
