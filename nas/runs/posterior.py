"""What is believed of every cell's reward at a rung, from all that was trained at that rung and below: mean and interval. No torch.

The rewards of a cell are shrunk towards the mean of its rung, the more so the noisier trainings are there; from one rung to the next leads a
straight line through the cells that were trained at both.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pvariance

from search_spaces.space import Actions, SearchSpace

CONFIDENT = 1.96
"""Deviations of a normal distribution on either side of its mean that hold 95 % of it."""
PRIOR_CELLS = 4.0
"""How many cells the slope 1 from rung to rung counts for, before any has been trained at both."""


@dataclass(frozen=True)
class Observation:
    """A reward that a cell had at a rung."""

    actions: Actions
    reward: float
    rung: int


@dataclass(frozen=True)
class Belief:
    """What is believed of a cell's reward at a rung: ``low`` to ``high`` holds 95 %."""

    mean: float
    low: float
    high: float
    deviation: float


def beliefs(space: SearchSpace, observations: Sequence[Observation], rung: int) -> dict[Actions, Belief]:
    """Of every cell that has a reward, what its reward at ``rung`` is believed to be, in the mean over seeds.

    Args:
        space: the search space of the cells.
        observations: rewards at any rung; several of a cell at a rung are several seeds.
        rung: 0 is the search's own.
    """
    levels: dict[int, dict[Actions, list[float]]] = defaultdict(lambda: defaultdict(list))
    for seen in observations:
        if seen.rung <= rung:  # a cell above has been here
            levels[seen.rung][seen.actions].append(seen.reward)
    believed: dict[Actions, tuple[float, float]] = {}
    for level in sorted(levels):
        here = _shrunk(levels[level])
        believed = {**_raised(believed, here), **here}
    return {actions: _belief(mean, variance) for actions, (mean, variance) in believed.items()}


def _shrunk(rewards: Mapping[Actions, Sequence[float]]) -> dict[Actions, tuple[float, float]]:
    """Posterior mean and variance of every cell at one rung: normal cells, normal noise, the noise that repeated trainings show.

    Without repeated trainings half of the variance counts as noise.
    """
    means = {actions: fmean(found) for actions, found in rewards.items()}
    centre, total = fmean(means.values()), pvariance(means.values())
    spare = sum(len(found) - 1 for found in rewards.values())
    squares = sum((reward - means[actions]) ** 2 for actions, found in rewards.items() for reward in found)
    noise = squares / spare if spare else total / 2
    between = max(total - noise * fmean(1 / len(found) for found in rewards.values()), total / 10)
    posterior = {}
    for actions, found in rewards.items():
        error = noise / len(found)
        kept = between / (between + error) if between + error else 1.0
        posterior[actions] = centre + kept * (means[actions] - centre), kept * error
    return posterior


def _raised(below: Mapping[Actions, tuple[float, float]], here: Mapping[Actions, tuple[float, float]]) -> dict[Actions, tuple[float, float]]:
    """What is believed of the cells of the rung below, at this one."""
    both = [(below[actions][0], here[actions][0]) for actions in below if actions in here]
    if not both:
        return dict(below)
    x, y = fmean(pair[0] for pair in both), fmean(pair[1] for pair in both)
    spread = pvariance([mean for mean, _ in below.values()])
    squares = sum((a - x) ** 2 for a, _ in both) + PRIOR_CELLS * spread
    slope = (sum((a - x) * (b - y) for a, b in both) + PRIOR_CELLS * spread) / squares if squares else 1.0
    rest = sum((b - y - slope * (a - x)) ** 2 for a, b in both) / len(both)
    return {actions: (y + slope * (mean - x), slope**2 * variance + rest) for actions, (mean, variance) in below.items()}


def _belief(mean: float, variance: float) -> Belief:
    deviation = variance**0.5
    return Belief(mean, mean - CONFIDENT * deviation, mean + CONFIDENT * deviation, deviation)
