"""The surrogate: an exact Gaussian process, useful where there is something to learn, silent where there is not, bounded."""

import random

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel
from support.contracts import SMALL_SPACE

from controllers.surrogate import GRID, Encoder, Surrogate
from search_spaces.nasnet import NASNET
from search_spaces.space import sample_actions

RNG = random.Random(0)
SEQUENCES = [sample_actions(SMALL_SPACE, RNG) for _ in range(400)]
NONE = np.empty((0, len(SMALL_SPACE.decisions)), dtype=np.int64)


def score(actions) -> float:
    """Additive, with one interaction; first choices are good."""
    return sum(action == 0 for action in actions) / 20 + 0.3 * (actions[3] == 0 and actions[9] == 0)


def taught(count: int, capacity: int = 300, rewards=score) -> Surrogate:
    surrogate = Surrogate(SMALL_SPACE.decisions, capacity, 10)
    for actions in SEQUENCES[:count]:
        surrogate.add(actions, rewards(actions))
    return surrogate


def test_encoder_counts_and_distances():
    encoder = Encoder(SMALL_SPACE.decisions)
    one, other = SEQUENCES[0], SEQUENCES[1]
    differing, squared = encoder.distances(encoder.encode(np.array([one])), encoder.encode(np.array([other])))
    assert differing[0, 0] * 20 == pytest.approx(sum(a != b for a, b in zip(one, other, strict=True)))
    kinds = list(dict.fromkeys(d.choices for d in SMALL_SPACE.decisions))

    def counts(actions):
        taken = [(decision.choices, action) for decision, action in zip(SMALL_SPACE.decisions, actions, strict=True)]
        return np.array([[taken.count((kind, choice)) for choice in range(3)] for kind in kinds])

    assert squared[0, 0] * 20 == pytest.approx(((counts(one) - counts(other)) ** 2).sum())


class Wrapped(Kernel):
    """The surrogate's kernel for scikit-learn."""

    def __init__(self, encoder=None, hyper=None):
        self.encoder, self.hyper = encoder, hyper

    def __call__(self, X, Y=None, eval_gradient=False):  # noqa: N803 - scikit-learn's names
        rows = [self.encoder.encode(np.asarray(Z).astype(int)) for Z in (X, X if Y is None else Y)]
        return self.encoder.kernel(*rows, self.hyper)

    def diag(self, X):  # noqa: N803
        return np.ones(len(X))

    def is_stationary(self):
        return True


def test_posterior_equals_scikit_learns():
    """Mean and deviation against an independent implementation, with pending points as observations at their own mean."""
    surrogate = taught(40)
    hyper = GRID[surrogate.choice]
    known = np.array([actions for actions, _, _ in surrogate.points])
    candidates = np.array(SEQUENCES[100:160])
    reference = GaussianProcessRegressor(Wrapped(surrogate.encoder, hyper), alpha=hyper.noise, optimizer=None)
    targets = surrogate._training_set()[1]
    reference.fit(known, targets)
    prepared = surrogate.prepare(candidates)
    mean, variance = prepared.mean, surrogate.variance(prepared, NONE)
    expected_mean, expected_deviation = reference.predict(candidates, return_std=True)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-5)
    np.testing.assert_allclose(np.sqrt(variance), expected_deviation, atol=1e-5)
    pending = np.array(SEQUENCES[200:205])
    believed = np.concatenate([targets, reference.predict(pending)])
    reference.fit(np.concatenate([known, pending]), believed)
    variance = surrogate.variance(prepared, pending)
    expected_mean, expected_deviation = reference.predict(candidates, return_std=True)
    np.testing.assert_allclose(mean, expected_mean, atol=1e-5)
    np.testing.assert_allclose(np.sqrt(variance), expected_deviation, atol=1e-5)


def test_expected_improvement_equals_its_definition():
    surrogate = taught(30)
    candidates = np.array(SEQUENCES[100:105])
    prepared = surrogate.prepare(candidates)
    draws = prepared.mean + np.sqrt(prepared.variance) * np.random.default_rng(0).standard_normal((200_000, 5))
    sampled = np.maximum(draws - surrogate.fit().means.max(), 0).mean(0)
    np.testing.assert_allclose(surrogate.expected_improvement(prepared, NONE), sampled, rtol=0.05, atol=2e-4)


def test_learns_to_rank_and_says_so():
    surrogate = taught(120)
    assert surrogate.ready and surrogate.trust > 0.6
    mean = surrogate.prepare(np.array(SEQUENCES[200:])).mean
    assert np.corrcoef(mean, [score(actions) for actions in SEQUENCES[200:]])[0, 1] > 0.7


def test_only_the_order_of_rewards_matters():
    """A strictly increasing change of all rewards changes nothing."""
    plain, bent = taught(50), taught(50, rewards=lambda actions: score(actions) ** 3 / 7)
    candidates = np.array(SEQUENCES[100:150])
    scores = [surrogate.expected_improvement(surrogate.prepare(candidates), NONE) for surrogate in (plain, bent)]
    np.testing.assert_array_equal(*scores)


def test_does_not_trust_itself_on_noise():
    ready = [taught(40 + 10 * i, rewards=lambda actions: random.Random(repr(actions) + "noise").random()).trust for i in range(6)]
    # A rank correlation over 40 to 90 points of noise has a standard deviation of 0.1 to 0.16: no single one must be small.
    assert max(ready) < 0.4 and np.mean(ready) < 0.25
    assert not taught(9).ready


def test_pending_neighbourhoods_lose_their_attraction():
    surrogate = taught(60)
    candidates = np.array(SEQUENCES[100:300])
    prepared = surrogate.prepare(candidates)
    free = surrogate.expected_improvement(prepared, NONE)
    busy = surrogate.expected_improvement(prepared, candidates[[free.argmax()]])
    assert busy[free.argmax()] < 0.7 * free.max()
    assert (busy <= free + 1e-12).all()


def test_capacity_keeps_the_best_and_the_newest():
    surrogate = taught(400, capacity=50)
    assert len(surrogate.points) == 50
    kept = [actions for actions, _, _ in surrogate.points] + [actions for actions, _, _ in surrogate.fresh]
    assert kept[-20:] == SEQUENCES[-20:]
    best = sorted(SEQUENCES, key=score)[-5:]
    assert sum(actions in kept for actions in best) >= 4


def test_leaders_are_the_best_by_mean():
    surrogate = taught(100)
    leaders = surrogate.leaders(5)
    assert leaders.shape == (5, 20)
    assert np.mean([score(actions) for actions in leaders]) > np.quantile([score(actions) for actions in SEQUENCES[:100]], 0.9)


def test_works_on_fifty_decisions():
    rng = random.Random(1)
    surrogate = Surrogate(NASNET.decisions, 100, 10)
    for _ in range(30):
        actions = sample_actions(NASNET, rng)
        surrogate.add(actions, sum(action == 0 for action in actions) / 50)
    candidates = np.array([sample_actions(NASNET, rng) for _ in range(20)])
    assert np.isfinite(surrogate.expected_improvement(surrogate.prepare(candidates), candidates[:3])).all()
