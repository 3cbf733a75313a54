"""The surrogate: an exact Gaussian process, useful where there is something to learn, harmless where there is not, bounded."""

import json
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from left_out import SEARCHES, across, read
from scipy.stats import spearmanr
from sklearn.gaussian_process import GaussianProcessRegressor
from support.contracts import SMALL_SPACE
from support.kernels import Wrapped

from controllers.controller import Beginner, Completed, Earlier, Proposal
from controllers.options import ControllerError
from controllers.registry import CONTROLLERS, check_learning, check_options, make_controller
from controllers.surrogate import EXPECTED, GRID, LEVEL, RELATIONS, SLOPE, TRUST, Encoder, Point, Surrogate
from nas.evaluators.objective import synthetic_reward
from search_spaces.nasnet import NASNET
from search_spaces.space import feature_table, sample_actions

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
    assert differing[0, 0] == (sum(a != b for a, b in zip(one, other, strict=True)))
    kinds = list(dict.fromkeys(d.choices for d in SMALL_SPACE.decisions))

    def counts(actions):
        taken = [(decision.choices, action) for decision, action in zip(SMALL_SPACE.decisions, actions, strict=True)]
        return np.array([[taken.count((kind, choice)) for choice in range(3)] for kind in kinds])

    assert squared[0, 0] == pytest.approx(((counts(one) - counts(other)) ** 2).sum())


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


def test_learns_to_rank():
    mean = taught(120).prepare(np.array(SEQUENCES[200:])).mean
    assert np.corrcoef(mean, [score(actions) for actions in SEQUENCES[200:]])[0, 1] > 0.7


def test_only_the_order_of_rewards_matters():
    """A strictly increasing change of all rewards changes nothing."""
    plain, bent = taught(50), taught(50, rewards=lambda actions: score(actions) ** 3 / 7)
    candidates = np.array(SEQUENCES[100:150])
    scores = [surrogate.expected_improvement(surrogate.prepare(candidates), NONE) for surrogate in (plain, bent)]
    np.testing.assert_array_equal(*scores)


WHATEVER = {"told": score, "even": lambda actions: 0.5, "noise": lambda actions: random.Random(repr(actions)).random()}


@pytest.mark.parametrize("rewards", WHATEVER.values(), ids=WHATEVER)
def test_is_asked_from_its_start_on_whatever_it_was_told(rewards):
    """How well left-out rewards are predicted says little of a process told few: a high one left out lowers the mean of the others."""
    assert not taught(9, rewards=rewards).ready
    surrogate = taught(12, rewards=rewards)
    assert surrogate.ready
    scores = surrogate.expected_improvement(surrogate.prepare(np.array(SEQUENCES[100:150])), NONE)
    assert np.isfinite(scores).all() and (scores >= 0).all()


def test_helps_where_rewards_are_mostly_noise():
    """Two dozen cells that differ by no more than trainings do: too few to predict left-out rewards by, and enough to search by."""
    gains = []
    for seed in range(5):
        controller = make_controller("ppo", NASNET, seed, {"screen_start": 24})
        truths: list[float] = []
        for trial in range(44):
            proposal = controller.ask(trial, [])
            truths.append(synthetic_reward(NASNET.decode(proposal.actions)))
            noise = random.Random(repr(proposal.actions)).gauss(0, 0.02)
            controller.tell(proposal, Completed(0.4 * truths[-1] + noise))
        gains.append(np.mean(truths[24:]) - np.mean(truths[:24]))
    assert np.mean(gains) > 0.06


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


def shallow(actions) -> float:
    """What the features say and the decisions do not show: cells of few nodes in a row, of little cost."""
    features = NASNET.features(NASNET.decode(actions))
    return -features["normal.depth"] - features["reduction.depth"] - features["normal.macs"] / 10


def featured(count: int, rewards, measured=None) -> Surrogate:
    surrogate = Surrogate(NASNET.decisions, 300, 10, partial(feature_table, NASNET), measured)
    for actions in NASNET_SEQUENCES[:count]:
        surrogate.add(actions, rewards(actions))
    return surrogate


NASNET_SEQUENCES = [sample_actions(NASNET, random.Random(i)) for i in range(300)]


class TestFeatures:
    def test_are_looked_at_where_they_say_more_than_the_decisions(self):
        with_them = featured(100, shallow)
        without = Surrogate(NASNET.decisions, 300, 10)
        for actions in NASNET_SEQUENCES[:100]:
            without.add(actions, shallow(actions))
        assert GRID[with_them.choice].features > 0
        rest = np.array(NASNET_SEQUENCES[100:])
        truth = [shallow(actions) for actions in NASNET_SEQUENCES[100:]]
        ranked = [np.corrcoef(surrogate.prepare(rest).mean, truth)[0, 1] for surrogate in (with_them, without)]
        assert ranked[0] > ranked[1] + 0.1

    def test_are_not_looked_at_where_they_say_nothing(self):
        def first_inputs(actions):
            return sum(actions[i] == actions[i + 1] for i in range(0, 50, 5)) + random.Random(repr(actions)).random() / 10

        surrogate = featured(100, first_inputs)
        plain = Surrogate(NASNET.decisions, 300, 10)
        for actions in NASNET_SEQUENCES[:100]:
            plain.add(actions, first_inputs(actions))
        rest = np.array(NASNET_SEQUENCES[100:])
        truth = [first_inputs(actions) for actions in NASNET_SEQUENCES[100:]]
        ranked = [np.corrcoef(one.prepare(rest).mean, truth)[0, 1] for one in (surrogate, plain)]
        assert ranked[0] > ranked[1] - 0.05

    def test_count_as_expected_until_the_rewards_are_evidence_of_more_or_less(self):
        for seed in range(5):
            few = featured(12, lambda actions, seed=seed: random.Random(f"{seed} {actions}").random())
            assert (GRID[few.choice].features, GRID[few.choice].length) == EXPECTED
        many = featured(100, lambda actions: sum(actions[i] == actions[i + 1] for i in range(0, 50, 5)))
        assert GRID[many.choice].features < 0.5

    def test_what_one_search_on_images_is_told_orders_the_children_of_others(self):
        """The first fifteen children of each of six searches on CIFAR-10; with features by the likelihood alone the mean was 0.10."""
        searches = [read(path) for path in SEARCHES]
        assert np.mean(across(searches, 15, True)) > 0.22 > 0.17 > np.mean(across(searches, 15, False))

    def test_measured_scores_may_be_added(self):
        """A score that is the reward itself, of what has been measured; what has not counts as average."""
        measured = {actions: [random.Random(i).random()] for i, actions in enumerate(SEQUENCES)}
        surrogate = Surrogate(SMALL_SPACE.decisions, 300, 10, None, measured)
        for actions in SEQUENCES[:80]:
            surrogate.add(actions, measured[actions][0])
        mean = surrogate.prepare(np.array(SEQUENCES[100:200])).mean
        assert np.corrcoef(mean, [measured[actions][0] for actions in SEQUENCES[100:200]])[0, 1] > 0.9
        unmeasured = tuple(0 for _ in SMALL_SPACE.decisions)
        assert np.isfinite(surrogate.prepare(np.array([unmeasured])).mean).all()


class TestRungs:
    def test_a_higher_rung_decides_among_those_that_reached_it(self):
        """Twenty of sixty are trained again, and there the opposite of the first rewards is true."""
        surrogate = taught(60)
        best = sorted(SEQUENCES[:60], key=score)[-20:]
        for actions in best:
            surrogate.add(actions, 1 - score(actions), rung=1)
        again = taught(60)
        for actions in best:
            again.add(actions, score(actions), rung=1)
        means = [s.prepare(np.array(best)).mean for s in (surrogate, again)]
        truth = [score(actions) for actions in best]
        assert np.corrcoef(means[1], truth)[0, 1] > np.corrcoef(means[0], truth)[0, 1] + 0.2

    def test_what_agrees_is_more_closely_related_than_what_does_not(self):
        related = []
        for noise in (0.0, 3.0):
            surrogate = taught(60)
            for actions in SEQUENCES[:40]:
                surrogate.add(actions, score(actions) + noise * random.Random(repr(actions)).random(), rung=1)
            surrogate._choose()
            related.append(RELATIONS[surrogate.relation])
        assert related[0] > related[1]

    def test_rewards_of_the_best_are_not_taken_for_average(self):
        """Five of sixty at the higher rung, by chance in the reverse order: all of them stay above the middle."""
        surrogate = taught(60)
        for actions in sorted(SEQUENCES[:60], key=score)[-5:]:
            surrogate.add(actions, 0.1 + score(actions) / 100, rung=2)
        targets = surrogate._training_set()[1]
        assert (targets[-4:] > 0).all()

    def test_the_process_is_scikit_learns_with_a_kernel_over_both(self):
        surrogate = taught(40)
        for actions in SEQUENCES[:8]:
            surrogate.add(actions, score(actions) ** 2, rung=1)
        fit, candidates = surrogate.fit(), np.array(SEQUENCES[100:130])
        rows, encoder = surrogate.encoder.encode(candidates), surrogate.encoder
        relation = RELATIONS[surrogate.relation]
        rungs = np.array([point.rung for point in surrogate.points])
        known = encoder.kernel(fit.rows, fit.rows, fit.hyper) * np.where(rungs[:, None] == rungs, 1, relation)
        cross = encoder.kernel(fit.rows, rows, fit.hyper) * np.where(rungs == 1, 1, relation)[:, None]
        solved = np.linalg.solve(known + fit.hyper.noise * np.eye(len(known)), cross)
        prepared = surrogate.prepare(candidates)
        np.testing.assert_allclose(prepared.mean, solved.T @ surrogate._training_set()[1], atol=1e-9)
        np.testing.assert_allclose(prepared.variance, 1 - (cross * solved).sum(0), atol=1e-9)

    def test_a_state_remembers_rungs_and_one_from_before_has_none(self):
        surrogate = taught(40)
        before = surrogate.state_dict()
        del before["relation"]
        assert all(len(packed) == 2 for packed in before["points"])
        surrogate.add(SEQUENCES[0], 0.5, rung=2)
        for state, rungs in ((surrogate.state_dict(), {0, 2}), (before, {0})):
            restored = Surrogate(SMALL_SPACE.decisions, 300, 10)
            restored.load_state_dict(json.loads(json.dumps(state)))
            assert {point.rung for point in (*restored.points, *restored.fresh)} == rungs
        with pytest.raises(ValueError, match="not the state"):
            taught(5).load_state_dict({**before, "relation": 99})


def test_outcomes_of_higher_rungs_go_to_the_surrogate_alone():
    controller = make_controller("ppo", SMALL_SPACE, 0)
    assert controller.learns_from_rungs
    for trial in range(23):
        proposal = controller.ask(trial, [])
        controller.tell(proposal, Completed(score(proposal.actions) / 2))
    before = controller.state_dict()
    assert controller.tell(replace(proposal, trial=23, rung=1), Completed(0.9)) is None
    after = controller.state_dict()
    assert after["version"] == before["version"] and after["batch"] == before["batch"] and after["history"] == before["history"]
    assert after["surrogate"]["points"][-1] == [list(proposal.actions), 0.9, 1]
    other = make_controller("ppo", SMALL_SPACE, 0)
    other.load_state_dict(after)
    assert other.ask(24, []) == controller.ask(24, [])


class TestWhatEarlierSearchesTrained:
    EARLIER = tuple(Point(actions, score(actions)) for actions in SEQUENCES[200:300])
    OTHERS = np.array(SEQUENCES[300:])

    def begun(self, count: int, rewards=score, earlier=EARLIER) -> Surrogate:
        surrogate = Surrogate(SMALL_SPACE.decisions, 300, 5)
        surrogate.begin_with(earlier)
        for actions in SEQUENCES[:count]:
            surrogate.add(actions, rewards(actions))
        return surrogate

    def agreement(self, surrogate: Surrogate, rewards=score) -> float:
        return spearmanr(surrogate.prepare(self.OTHERS).mean, [rewards(tuple(actions)) for actions in self.OTHERS.tolist()])[0]

    def test_the_process_is_a_linear_model_of_what_is_expected_and_the_usual_one(self):
        surrogate, plain = self.begun(30), taught(30)
        before = Surrogate(SMALL_SPACE.decisions, 300, 5)
        before.points = list(self.EARLIER)
        before._choose()
        known, hyper = np.array(SEQUENCES[:30]), GRID[surrogate.choice]
        of_known, of_others = before.prepare(known).mean, before.prepare(self.OTHERS).mean
        rows, others = plain.encoder.encode(known), plain.encoder.encode(self.OTHERS)
        covariance = plain.encoder.kernel(rows, rows, hyper) + LEVEL + SLOPE * np.outer(of_known, of_known)
        cross = plain.encoder.kernel(rows, others, hyper) + LEVEL + SLOPE * np.outer(of_known, of_others)
        solved = np.linalg.solve(covariance + hyper.noise * np.eye(30), cross)
        targets = plain._training_set()[1]
        prepared = surrogate.prepare(self.OTHERS)
        np.testing.assert_allclose(prepared.mean, TRUST * of_others + solved.T @ (targets - TRUST * of_known), atol=1e-5)
        np.testing.assert_allclose(prepared.variance, 1 + LEVEL + SLOPE * of_others**2 - (cross * solved).sum(0), atol=1e-5)

    def test_it_orders_architectures_from_the_first_rewards_on(self):
        alone = Surrogate(SMALL_SPACE.decisions, 300, 5)
        for actions in SEQUENCES[:6]:
            alone.add(actions, score(actions))
        assert self.agreement(self.begun(6)) > max(0.8, self.agreement(alone) + 0.3)

    def test_what_does_not_hold_any_more_is_unlearnt(self):
        def opposite(actions):
            return 1 - score(actions)

        after = [self.agreement(self.begun(count, opposite), opposite) for count in (1, 6, 60)]
        assert after[0] < -0.8 and 0.5 < after[1] < after[2]

    def test_only_the_order_within_an_earlier_search_counts(self):
        squares = tuple(point._replace(reward=point.reward**2 / 100) for point in self.EARLIER)
        means = [self.begun(20, earlier=earlier).prepare(self.OTHERS).mean for earlier in (self.EARLIER, squares)]
        np.testing.assert_allclose(*means, atol=1e-9)

    def test_rewards_of_two_searches_are_not_compared(self):
        """The second has other images, on which everything is twice as good, and what is good is the same."""
        half = len(self.EARLIER) // 2
        two = [point if i < half else Point(point.actions, 0.5 + point.reward / 2, 1) for i, point in enumerate(self.EARLIER)]
        assert self.agreement(self.begun(6, earlier=two)) > 0.75

    def test_a_controller_begins_with_them_and_keeps_no_copy(self):
        earlier = [Earlier("before", tuple((point.actions, point.reward) for point in self.EARLIER))]
        controller, restored, fresh = (make_controller("ppo", SMALL_SPACE, 0) for _ in range(3))
        for one in (controller, restored):
            assert isinstance(one, Beginner)
            one.begin_with(earlier)
        rewards = []
        for trial in range(4):
            proposal = controller.ask(trial, [])
            assert proposal != fresh.ask(trial, []), "it is asked before the first reward"
            rewards.append(score(proposal.actions))
            controller.tell(proposal, Completed(rewards[-1] / 2))
            fresh.tell(proposal, Completed(rewards[-1] / 2))
        assert min(rewards) > max(score(actions) for actions in SEQUENCES) - 0.15
        assert json.dumps(controller.state_dict()["surrogate"]["points"]) == json.dumps(fresh.state_dict()["surrogate"]["points"])
        restored.load_state_dict(controller.state_dict())
        assert restored.ask(4, []) == controller.ask(4, [])

    def test_the_best_of_them_lead_until_better_ones_are_told(self):
        surrogate = self.begun(0)
        best = max(self.EARLIER, key=lambda point: point.reward).actions
        assert surrogate.ready and best in map(tuple, surrogate.leaders(3).tolist())
        bad = min(SEQUENCES[:200], key=score)
        surrogate.add(bad, score(bad))
        assert bad not in map(tuple, surrogate.leaders(20).tolist())
        better = max(SEQUENCES[:200], key=score)
        for actions in SEQUENCES[:200]:
            surrogate.add(actions, score(actions) + (actions == better))
        assert tuple(surrogate.leaders(1)[0].tolist()) == better

    def test_many_at_once_begin_where_earlier_searches_ended_each_with_another_architecture(self):
        controller = make_controller("ppo", SMALL_SPACE, 0)
        controller.begin_with([Earlier("before", tuple((point.actions, point.reward) for point in self.EARLIER))])
        pending: list[Proposal] = []
        for trial in range(30):
            pending.append(controller.ask(trial, pending))
        found = [score(proposal.actions) for proposal in pending]
        assert len({proposal.actions for proposal in pending}) == 30
        assert np.mean(found) > np.quantile([score(actions) for actions in SEQUENCES], 0.9)

    def test_who_learns_nothing_says_so(self):
        for name in CONTROLLERS.built_in:
            learns = CONTROLLERS[name].learns(check_options(name, {}))
            assert learns == isinstance(make_controller(name, SMALL_SPACE, 0), Beginner)
            if not learns:
                with pytest.raises(ControllerError, match=rf"\(ppo, reinforce, unless screen is false\), but got controller '{name}'"):
                    check_learning(name, {})
        check_learning("ppo", {})
        with pytest.raises(ControllerError, match="unless screen is false"):
            check_learning("ppo", {"screen": False})
        with pytest.raises(ControllerError, match="without a surrogate"):
            make_controller("ppo", SMALL_SPACE, 0, {"screen": False}).begin_with([])


def test_no_candidates_are_no_trouble() -> None:
    """Where a space is exhausted, the pool of candidates is empty; features have as many columns then as ever."""
    encoder = Encoder(NASNET.decisions, partial(feature_table, NASNET))
    some = np.array([sample_actions(NASNET, random.Random(seed)) for seed in range(3)])
    assert encoder.encode(some[:0]).shape == (0, encoder.encode(some).shape[1])
    assert encoder.kernel(encoder.encode(some), encoder.encode(some[:0]), GRID[-1]).shape == (3, 0)
