"""Beliefs: few rewards, many, repeated, at several rungs, and false ones."""

import random

import numpy as np
import pytest
from scipy.stats import spearmanr

from nas.evaluators.objective import synthetic_reward
from nas.runs.posterior import Observation, beliefs, crowned
from search_spaces.nasnet import NASNET
from search_spaces.space import sample_actions

RNG = random.Random(0)
CELLS = [sample_actions(NASNET, RNG) for _ in range(240)]


def observed(*rows) -> list[Observation]:
    """Rows of cell, reward and, where it is not 0, the rung."""
    return [Observation(CELLS[row[0]], float(row[1]), *row[2:]) for row in rows]


def many(count=199, seed=0):
    rewards = 0.4 + 0.03 * np.random.default_rng(seed).standard_normal(count)
    return observed(*enumerate(rewards.tolist()))


def test_nothing_is_believed_of_nothing():
    assert beliefs(NASNET, [], 0) == {}


def test_one_reward_is_its_own_mean_with_a_wide_interval():
    (belief,) = beliefs(NASNET, observed((0, 0.4)), 0).values()
    assert belief.mean == pytest.approx(0.4)
    assert 0.03 < belief.high - belief.mean < 0.1 and belief.low == pytest.approx(0.8 - belief.high)


def test_two_and_three_rewards_are_drawn_to_their_middle():
    for rows in ([(0, 0.4), (1, 0.5)], [(0, 0.4), (1, 0.5), (2, 0.45)]):
        found = [belief.mean for belief in beliefs(NASNET, observed(*rows), 0).values()]
        assert 0.4 < found[0] < 0.45 < found[1] < 0.5


def test_equal_rewards_are_equal_beliefs():
    found = list(beliefs(NASNET, observed(*((i, 0.4) for i in range(30))), 0).values())
    assert all(belief.mean == pytest.approx(0.4) and belief.low < 0.4 < belief.high for belief in found)


def test_a_repeated_training_narrows_the_interval():
    once = beliefs(NASNET, many(50), 0)[CELLS[0]]
    again = beliefs(NASNET, [*many(50), *observed((0, once.mean), (0, once.mean), (0, once.mean))], 0)[CELLS[0]]
    assert again.deviation < 0.7 * once.deviation


def test_rewards_of_few_validation_images_are_drawn_together():
    """What spreads no more than so few images explain says little of who is better."""
    spread = [np.std([b.mean for b in beliefs(NASNET, many(50), 0, {0: images}).values()]) for images in (100_000, 100)]
    assert spread[1] < 0.3 * spread[0]


def test_the_same_observations_give_the_same_beliefs():
    observations = [*many(60), *observed((3, 0.6, 1), (5, 0.62, 1))]
    assert beliefs(NASNET, observations, 1) == beliefs(NASNET, list(observations), 1)


def test_beliefs_are_in_rewards_of_the_rung_asked_for():
    observations = [*many(40), *observed(*((i, 0.7 + 0.01 * i, 1) for i in range(6)))]
    low, high = (beliefs(NASNET, observations, rung) for rung in (0, 1))
    assert all(0.3 < belief.mean < 0.5 for belief in low.values())
    assert all(0.6 < high[CELLS[i]].mean < 0.8 for i in range(6))
    assert beliefs(NASNET, observations, 7) == high  # where nothing is known yet, in those of the highest rung


def test_a_higher_rung_weighs_more_there_than_a_lower_one():
    """Two cells: one better at the lower rung, the other at the higher one."""
    observations = [*many(40), *observed((40, 0.48), (41, 0.45), (40, 0.55, 1), (41, 0.60, 1), (1, 0.56, 1), (2, 0.57, 1))]
    found = beliefs(NASNET, observations, 1)
    assert found[CELLS[41]].mean > found[CELLS[40]].mean


class TestFalseHighs:
    def test_one_is_not_the_best(self):
        found = beliefs(NASNET, [*many(), *observed((199, 1.0))], 0)
        false = found.pop(CELLS[199])
        assert false.mean < np.quantile([belief.mean for belief in found.values()], 0.9)
        assert max(belief.mean for belief in found.values()) < 0.5

    def test_a_second_look_settles_it(self):
        wrong = beliefs(NASNET, [*many(), *observed((199, 1.0), (199, 0.41))], 0)[CELLS[199]]
        right = beliefs(NASNET, [*many(), *observed((199, 0.6), (199, 0.61))], 0)[CELLS[199]]
        assert wrong.high < 0.46 and right.low > 0.55

    def test_the_others_are_believed_as_without_it(self):
        without, with_one = (beliefs(NASNET, [*many(), *more], 0) for more in ([], observed((199, 1.0))))
        assert max(abs(with_one[cell].mean - belief.mean) for cell, belief in without.items()) < 0.005

    def test_a_bold_but_credible_reward_is_still_the_best(self):
        found = beliefs(NASNET, [*many(), *observed((199, 0.52))], 0)
        assert max(found, key=lambda cell: found[cell].mean) == CELLS[199]


def test_only_a_cell_looked_at_twice_is_crowned():
    observations = [*many(60), *observed((60, 0.52), (61, 0.47), (61, 0.47))]
    choice = crowned(NASNET, observations)
    assert (choice.incumbent, choice.contender) == (CELLS[61], CELLS[60])
    choice = crowned(NASNET, [*observations, *observed((60, 0.51))])
    assert (choice.incumbent, choice.contender) == (CELLS[60], None)
    first = crowned(NASNET, observed((0, 0.4)))
    assert first.incumbent == first.contender == CELLS[0]


@pytest.fixture(scope="module")
def simulations():
    """Known truths at two rungs, of which the higher is seen for the 30 best at the lower; rewards, beliefs and truths of eight runs."""
    return [_simulated(seed) for seed in range(8)]


def _simulated(seed: int):
    rng = np.random.default_rng(seed)
    quality = np.array([synthetic_reward(NASNET.decode(cell), seed) for cell in CELLS])
    latent = 0.7 * (quality - quality.mean()) / quality.std() + 0.7 * rng.standard_normal(len(CELLS))
    low, high = 0.4 + 0.03 * latent, 0.55 + 0.04 * (0.8 * latent + 0.6 * rng.standard_normal(len(CELLS)))
    rewards = low + 0.02 * rng.standard_normal(len(CELLS))
    promoted = np.argsort(-rewards)[:30]
    observations = observed(*enumerate(rewards), *((i, high[i] + 0.015 * rng.standard_normal(), 1) for i in promoted))
    return low, high, rewards, promoted, observations


def test_beliefs_rank_better_than_rewards(simulations):
    gained = []
    for low, _, rewards, _, observations in simulations:
        means = [belief.mean for belief in beliefs(NASNET, observations, 0).values()]
        gained.append(spearmanr(means, low)[0] - spearmanr(rewards, low)[0])
    assert np.mean(gained) > 0.005


def test_intervals_hold_the_truth_as_often_as_they_say(simulations):
    held = []
    for low, high, _, promoted, observations in simulations:
        at_low, at_high = (list(beliefs(NASNET, observations, rung).values()) for rung in (0, 1))
        held += [belief.low <= truth <= belief.high for belief, truth in zip(at_low, low, strict=True)]
        held += [at_high[i].low <= high[i] <= at_high[i].high for i in promoted]
    assert 0.9 <= np.mean(held) <= 0.99


SCENARIOS = [(relation, noise) for relation in (0.35, 0.6, 0.9) for noise in (0.3, 0.8)]


def _climbed(relation: float, noise: float, seed: int, cells: int = 100, ups: tuple[int, ...] = (16, 5)):
    """The truth at the last of three rungs, observations, and how far each cell has come.

    The latent values at one rung and the next are correlated by ``relation``; half of their variance is in features, and nobody
    promotes but by the rewards; ``noise`` is in the deviations of the lowest rung's truth.
    """
    rng = np.random.default_rng(seed)
    qualities = [np.array([synthetic_reward(NASNET.decode(cell), objective) for cell in CELLS[:cells]]) for objective in range(3)]

    def latent(objective: int):
        quality = qualities[objective]
        return np.sqrt(0.5) * ((quality - quality.mean()) / quality.std() + rng.standard_normal(cells))

    values, rows, come = latent(seed % 3), [], np.zeros(cells, dtype=int)
    alive, truth, rewards = np.arange(cells), values, values
    for rung, (mean, spread) in enumerate(((0.4, 0.03), (0.5, 0.035), (0.6, 0.04))):
        if rung:
            values = relation * values + np.sqrt(1 - relation**2) * latent((seed + rung) % 3)
            alive = alive[np.argsort(-rewards[alive])[: ups[rung - 1]]]
        truth, come[alive] = mean + spread * values, rung
        rewards = truth + 0.03 * noise * (1.0 if rung == 0 else 0.7) * rng.standard_normal(cells)
        rows += [(i, rewards[i], rung) for i in alive.tolist()]
    return truth, observed(*rows), come


@pytest.fixture(scope="module")
def held():
    """Whether intervals hold the truth at the last rung, by scenario, for cells that never went up and those that did."""
    found = {}
    for scenario in SCENARIOS:
        never, up = [], []
        for seed in range(4):
            truth, observations, come = _climbed(*scenario, seed)
            believed = beliefs(NASNET, observations, 2).values()
            inside = np.array([belief.low <= value <= belief.high for belief, value in zip(believed, truth, strict=True)])
            never += inside[come == 0].tolist()
            up += inside[come > 0].tolist()
        found[scenario] = never, up
    return found


@pytest.mark.parametrize("which", [0, 1], ids=["never promoted", "promoted"])
def test_intervals_at_the_last_rung_hold_the_truth_however_rungs_are_related(held, which):
    """Cells are told apart by where they have been seen: those below are known by what the few above say of all."""
    share = {scenario: np.mean(found[which]) for scenario, found in held.items()}
    assert 0.9 <= np.mean(list(share.values())) <= 0.99, share
    assert min(share.values()) > 0.8, share  # four searches each, whose cells err together
