"""Which controller climbs fastest where rewards are like a real search's: on sample functions of a Gaussian process told its trainings.

    python benchmarks/sampled_objectives.py --seeds 24 --controller random --controller fewer=ppo:screen_local=0.5,screen_local_every=3

A real search of 80 children takes an hour, and two seeds of it differ by more than two controllers do. Here one takes seconds: every
seed has a function of its own, drawn from the posterior of a process that has seen the trainings of ``--rows`` (first rung), and drawn
only where a controller asks for it, each value given all before it (Rasmussen and Williams 2006, equations 2.23 and 2.24). What the
trainings leave open is drawn anew with every seed, so a controller is not told what those searches already knew. The kernel is the
surrogate's: that favours no controller with it over another, and flatters all of them beside evolution. Printed are the mean reward of
twenty children after the other, and the value, without noise, of the one with the best reward: mean and 95 % interval over seeds.

With ``--by forest`` every seed has the predictions of a random forest, fitted to as many of the trainings, drawn with replacement, as
there are (like the surrogate benchmarks of Siems et al. 2020, arXiv 2008.09777): not what any controller assumes, and never better than the
best training. ``--noise`` is what is added to it.

    python benchmarks/sampled_objectives.py --by forest --budget 65 --rows benchmarks/data/searched_by_features_*.csv
"""

import argparse
import csv
import math
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from sklearn.ensemble import RandomForestRegressor

from controllers.controller import random_for
from controllers.surrogate import Encoder, Hyperparameters, Rows
from nas.comparisons.controllers import Arm, Problem, Run, Terms, run_arm
from nas.comparisons.suite import parse_arm
from nas.tools.intervals import half_of_mean
from search_spaces.registry import load_space
from search_spaces.space import Actions, SearchSpace, favouring, feature_table

Floats = NDArray[np.float64]

HERE = Path(__file__).parent
EACH = 20
"""Children whose rewards are averaged."""
CONSIDERED = [
    Hyperparameters(reach, 1.0, noise, features=weight, length=length)
    for reach, noise, (weight, length) in product((0.2, 0.4, 0.8), (0.1, 0.25, 0.5), ((0.0, 1.0), (0.5, 1.0), (0.5, 2.0)))
]
TREES = 100
SURE = 1e-6
"""Variance that a value keeps once it has been drawn, in the process's own: what keeps the factor positive definite."""


@dataclass(frozen=True)
class Posterior:
    """A process that has seen n trainings: encoded, the factor of their covariance [n, n], and standardised residuals [n]."""

    space: SearchSpace
    encoder: Encoder
    hyper: Hyperparameters
    rows: Rows
    factor: Floats
    residuals: Floats
    mean: float
    deviation: float

    @property
    def noise(self) -> float:
        """Deviation of a training's reward from what its cell is worth."""
        return self.deviation * math.sqrt(self.hyper.noise)

    def sample(self, seed: int) -> "Sample":
        """One function drawn."""
        return Sample(self, seed)

    def __str__(self) -> str:
        moments = f"mean {self.mean:.4f}, deviation {self.deviation:.4f}, of a training's noise {self.noise:.4f}"
        return f"{len(self.rows)} trainings; {self.hyper}; {moments}"


@dataclass(frozen=True)
class Forests:
    """Forests of trainings: what they are fitted to."""

    space: SearchSpace
    encoder: Encoder
    rows: Rows
    rewards: Floats
    noise: float
    """Deviation of a training's reward from what its cell is worth."""

    def sample(self, seed: int) -> "Forest":
        """One forest, of trainings drawn with replacement."""
        drawn = np.random.default_rng(seed).integers(0, len(self.rows), len(self.rows))
        trees = RandomForestRegressor(TREES, min_samples_leaf=3, max_features=0.3, random_state=seed, n_jobs=1)
        return Forest(self.encoder, trees.fit(self.rows[drawn], self.rewards[drawn]))

    def __str__(self) -> str:
        moments = f"mean {self.rewards.mean():.4f}, of a training's noise {self.noise:.4f}"
        return f"{len(self.rows)} trainings; forests of {TREES} trees; {moments}"


Source = Posterior | Forests

class Training(NamedTuple):
    """A training of a search: ``origin`` is the trial whose cell it is, at higher rungs another one."""

    trial: str
    origin: str
    rung: int
    reward: float
    actions: Actions


def read_trainings(path: Path) -> list[Training]:
    """All trainings of a search's CSV file."""

    def training(row: dict[str, str]) -> Training:
        actions = tuple(map(int, row["actions"].split()))
        return Training(row["trial"], row["origin"] or row["trial"], int(row["rung"]), float(row["reward"]), actions)

    return [training(row) for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]


def read_rows(paths: Sequence[Path], rung: int = 0) -> tuple[list[Actions], Floats]:
    """Actions and rewards of all trainings at a rung."""
    rows = [row for path in paths for row in read_trainings(path) if row.rung == rung]
    return [row.actions for row in rows], np.array([row.reward for row in rows])


def fitted(space: SearchSpace, actions: Sequence[Actions], rewards: Floats) -> Posterior:
    """The process of the greatest marginal likelihood, its mean and variance estimated with it (equations 2.45 and 5.8)."""
    encoder = Encoder(space.decisions, partial(feature_table, space))
    rows, ones = encoder.encode(np.array(actions)), np.ones(len(actions))
    found: list[tuple[float, Posterior]] = []
    for hyper in CONSIDERED:
        factor = np.linalg.cholesky(encoder.kernel(rows, rows, hyper) + hyper.noise * np.eye(len(rows))).astype(np.float64)
        weights = cho_solve((factor, True), ones)
        mean = float(weights @ rewards / weights.sum())
        half = solve_triangular(factor, rewards - mean, lower=True)
        deviation = float(np.sqrt(half @ half / len(rows)))
        likelihood = -len(rows) * math.log(deviation) - float(np.log(np.diag(factor)).sum())
        found.append((likelihood, Posterior(space, encoder, hyper, rows, factor, half / deviation, mean, deviation)))
    return max(found, key=lambda one: one[0])[1]


def forests(space: SearchSpace, actions: Sequence[Actions], rewards: Floats, noise: float) -> Forests:
    """What forests are fitted to: encoded trainings."""
    encoder = Encoder(space.decisions, partial(feature_table, space))
    return Forests(space, encoder, encoder.encode(np.array(actions)), rewards, noise)


class Sample:
    """One function drawn from the posterior, value after value."""

    def __init__(self, posterior: Posterior, seed: int) -> None:
        self.posterior, self.rng = posterior, np.random.default_rng(seed)
        self.rows, self.factor, self.residuals = posterior.rows, posterior.factor, posterior.residuals
        self.values: dict[Actions, float] = {}

    def __call__(self, actions: Actions) -> float:
        """What these actions are worth in this function, the same whenever they are asked for."""
        if actions not in self.values:
            self.values[actions] = self._drawn(actions)
        return self.values[actions]

    def _drawn(self, actions: Actions) -> float:
        encoder, count = self.posterior.encoder, len(self.rows)
        one = encoder.encode(np.array([actions]))
        half = solve_triangular(self.factor, encoder.kernel(self.rows, one, self.posterior.hyper)[:, 0], lower=True)
        variance = max(1.0 - float(half @ half), 0.0)
        normal = float(self.rng.standard_normal())
        grown = np.zeros((count + 1, count + 1))
        grown[:count, :count], grown[count, :count], grown[count, count] = self.factor, half, math.sqrt(variance + SURE)
        standard = float(half @ self.residuals) + math.sqrt(variance) * normal
        self.residuals = np.append(self.residuals, math.sqrt(variance) * normal / grown[count, count])
        self.factor = grown
        self.rows = np.concatenate([self.rows, one])
        return self.posterior.mean + self.posterior.deviation * standard


@dataclass
class Forest:
    """What one forest predicts, asked for one by one."""

    encoder: Encoder
    trees: RandomForestRegressor

    def __call__(self, actions: Actions) -> float:
        """What these actions are worth, the same whenever they are asked for."""
        return float(self.trees.predict(self.encoder.encode(np.array([actions])))[0])


def problem(source: Source, terms: Terms, seed: int) -> Problem:
    """Of one run: rewards are a function's values with a training's noise, reports have none."""
    report = source.sample(seed)

    def reward(actions: Actions, look: str = "child") -> float:
        noise = random_for(seed, look, *actions).gauss(0, source.noise)
        return min(max(report(actions) + noise, 0.0), 1.0)

    return Problem(source.space, reward, partial(reward, look="again"), report, None, None, reward, math.inf, math.inf)


def interval(values: Sequence[float]) -> str:
    """Mean and half of its 95 % interval, in per cent."""
    return f"{100 * statistics.fmean(values):.2f} ± {100 * half_of_mean(values):.2f}"


def line(arm: Arm, runs: Sequence[Run]) -> str:
    """A row of the table."""
    told = [[reward for reward in run.told if reward is not None] for run in runs]
    groups = range(0, min(map(len, told)), EACH)
    cells = [interval([statistics.fmean(one[start : start + EACH]) for one in told]) for start in groups]
    return " | ".join([f"| {arm.label}", *cells, interval([float(run.report[-1]) for run in runs])]) + " |"


def main() -> None:
    """Run all controllers and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [HERE / "data" / "searched_by_cheap_draws_2.csv"]
    parser.add_argument("--rows", type=Path, nargs="+", default=default, help="CSV files of trainings: rung, reward, actions")
    parser.add_argument("--controller", action="append", help="[LABEL=]NAME[:OPTION=VALUE,…], as of nas bench")
    parser.add_argument("--budget", type=int, default=80)
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--in-flight", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--by", choices=("process", "forest"), default="process")
    parser.add_argument("--noise", type=float, default=0.0041, help="deviation of a training's reward, for --by forest")
    given = parser.parse_args()
    space, (actions, rewards) = favouring(load_space("nasnet"), "cheap"), read_rows(given.rows)
    source: Source = fitted(space, actions, rewards) if given.by == "process" else forests(space, actions, rewards, given.noise)
    print(source, flush=True)
    terms = Terms(budget=given.budget, in_flight=given.in_flight, noisy=True)
    starts = [f"children {start + 1} to {min(start + EACH, given.budget)}" for start in range(0, given.budget, EACH)]
    print("| " + " | ".join(["controller", *starts, "best by reward"]) + " |", "|---" * (len(starts) + 2) + "|", sep="\n", flush=True)
    with ProcessPoolExecutor(given.processes) as pool:
        for arm in map(parse_arm, given.controller or ["random", "ppo"]):
            runs = list(pool.map(partial(run_arm, arm, partial(problem, source), terms), range(given.seeds)))
            print(line(arm, runs), flush=True)


if __name__ == "__main__":
    main()
