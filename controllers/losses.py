"""Policy gradients as pure functions: advantages, REINFORCE and PPO losses. N trajectories of D decisions each.

A trajectory has one reward, given to each of its decisions undiscounted. Ratios and clipping are per decision, as in PPO's paper
for one step: over 50 decisions the product of the ratios is useless after the first gradient step.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A loss to minimise and what it says about the update; ``approximate_kl`` in nats a decision (Schulman's k3 estimator)."""

    total: Tensor
    approximate_kl: float
    clip_fraction: float


def ppo_loss(new: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Loss:
    """-mean min(r A, clamp(r, 1-c, 1+c) A) with r = exp(new - old): Schulman et al. 2017 (arXiv 1707.06347), equation 7.

    Args:
        new: log-probabilities [N, D] under the policy being trained.
        old: the same under the policy that proposed, stored with the proposals: outcomes may come from older policies.
        advantages: one for each trajectory [N].
        clip: c above.
    """
    difference = new - old
    ratio = difference.exp()
    gain = advantages[:, None]
    surrogate = torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
    return Loss(-surrogate.mean(), *_drift(difference, clip))


def reinforce_loss(new: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Loss:
    """-mean w A log p with w = min(exp(new - old), 1 + clip), not differentiated: REINFORCE (Williams 1992) off its policy.

    On the policy's own samples the weights are 1 and this is the plain estimator. Arguments as for ``ppo_loss``.
    """
    difference = new - old
    weights = difference.detach().exp().clamp(max=1 + clip)
    return Loss(-(weights * advantages[:, None] * new).mean(), *_drift(difference, clip))


def _drift(difference: Tensor, clip: float) -> tuple[float, float]:
    with torch.no_grad():
        ratio = difference.exp()
        return float((ratio - 1 - difference).mean()), float(((ratio - 1).abs() > clip).float().mean())


def entropy_penalty(entropy: Tensor, greatest: Tensor, weight: float, floor: float) -> Tensor:
    """What to add to a loss for exploration's sake.

    ``-weight * mean entropy``, and while the mean is below ``floor`` times its greatest value, the missing share on top.

    Args:
        entropy: of every decision [N, D], in nats.
        greatest: the logarithm of every decision's number of choices [D].
        weight: of the bonus.
        floor: share of the greatest mean entropy, in [0, 1]; 0 is off.
    """
    mean = entropy.mean()
    missing = torch.relu(floor - mean / greatest.mean())
    return missing - weight * mean


def rank_advantages(rewards: Sequence[float]) -> list[float]:
    """Centred ranks scaled to [-1, 1]: -1 for the worst, 1 for the best, equal for equal rewards. One reward gives 0."""
    ordered = sorted(rewards)
    span = max(len(ordered) - 1, 1)
    return [(bisect_left(ordered, r) + bisect_right(ordered, r) - 1 - (len(ordered) - 1)) / span for r in rewards]


def quantile_advantages(rewards: Sequence[float], history: Sequence[float], top: float = 0.2, otherwise: float = -0.25) -> list[float]:
    """From 0 to 2 within the best ``top`` share of all rewards so far (``history``, which includes them), else ``otherwise``.

    Only for searches that train no cell twice: a policy that repeats its best cell fills the history with that cell's
    reward, which then is no longer in the top share, and the policy is driven away from it.
    """
    ordered = sorted(history)
    quantiles = [(bisect_left(ordered, r) + bisect_right(ordered, r)) / (2 * len(ordered)) for r in rewards]
    return [2 * (q - (1 - top)) / top if q > 1 - top else otherwise for q in quantiles]


def baseline_advantages(rewards: Sequence[float], baseline: float, normalise: bool) -> list[float]:
    """Rewards minus a baseline, divided by their standard deviation if ``normalise``."""
    advantages = [reward - baseline for reward in rewards]
    if normalise and len(advantages) > 1:
        mean = sum(advantages) / len(advantages)
        deviation = (sum((a - mean) ** 2 for a in advantages) / len(advantages)) ** 0.5
        advantages = [a / (deviation + 1e-8) for a in advantages]
    return advantages


def moving_average(previous: float | None, value: float, decay: float) -> float:
    """Exponential moving average that starts at the first value."""
    return value if previous is None else decay * previous + (1 - decay) * value
