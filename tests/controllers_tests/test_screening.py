"""Screening: what the surrogate is given to choose from."""

import numpy as np

from controllers.controller import Completed
from controllers.registry import make_controller
from controllers.screening import STEPS, _drawn, changed, usual_pool_size
from nas.evaluators.objective import synthetic_reward
from search_spaces.nasnet import NASNET
from search_spaces.space import Decision, chances, favouring


def test_a_screen_of_changes_alone_proposes_only_changes_of_the_best():
    """What the benchmarks call mutations under the same surrogate."""
    options = {"screen_local": 1.0, "screen_local_every": 1, "screen_uniform": 0.0, "screen_pool": 64}
    controller = make_controller("ppo", NASNET, 0, options)
    for trial in range(40):
        proposal = controller.ask(trial, [])
        if controller.screen.surrogate.ready:
            leaders = controller.screen.surrogate.leaders(10)
            assert 1 <= (leaders != np.array(proposal.actions)).sum(1).min() <= max(STEPS)
        controller.tell(proposal, Completed(synthetic_reward(NASNET.decode(proposal.actions))))
    assert controller.screen.surrogate.ready


def test_pools_have_uniform_draws_and_now_and_then_changes():
    """As often as is said; all pools have the asked share of uniform draws, which differ from the leaders everywhere."""
    options = {"screen_pool": 90, "screen_uniform": 0.5, "screen_local": 0.5, "screen_local_every": 3}
    controller = make_controller("ppo", NASNET, 0, options)
    screen, near = controller.screen, []
    for trial in range(33):  # one outcome after the other is absorbed while there are few
        proposal = controller.ask(trial, [])
        controller.tell(proposal, Completed(synthetic_reward(NASNET.decode(proposal.actions))))
        rows = screen._rows(controller.policy, controller.version)
        assert len(rows) == 90
        distances = (rows[:, None] != screen.surrogate.leaders(10)[None]).sum(2).min(1)
        assert (np.sort(distances)[-45:] > 15).all()
        near.append(int((distances <= max(STEPS)).sum()))
    assert [count >= 22 for count in near] == [absorbed % 3 == 0 for absorbed in range(1, 34)]


def test_a_large_space_has_more_candidates():
    """Four for every choice, unless somebody says a number."""
    assert usual_pool_size((Decision("a", ("x", "y")),)) == 320
    assert usual_pool_size((Decision("a", tuple(map(str, range(50)))),) * 4) == 800
    for given, count in (({}, usual_pool_size(NASNET.decisions)), ({"screen_pool": 90}, 90)):
        controller = make_controller("ppo", NASNET, 0, {"screen_start": 3, **given})
        for trial in range(4):
            controller.tell(controller.ask(trial, []), Completed(0.5))
        assert len(controller.screen._rows(controller.policy, controller.version)) == count


def test_uniform_draws_and_changes_follow_the_weights():
    decisions = favouring(NASNET, "cheap").decisions
    rows = _drawn(decisions, 4000, np.random.default_rng(0))
    for place, odds in enumerate(chances(decisions)):
        shares = np.bincount(rows[:, place], minlength=len(odds)) / 4000
        assert np.abs(shares - odds).max() < 6 * 0.5 / 4000**0.5, decisions[place].name
    few = (Decision("a", ("x", "y", "z"), (1.0, 6.0, 3.0)), Decision("b", ("p", "q")))
    parents = np.array([[1, 0]])
    children = changed(parents, few, 4000, np.random.default_rng(1))
    assert set((children != parents).sum(1)) == {1}  # no more than half of the decisions
    became = np.bincount(children[:, 0], minlength=3)
    assert abs(became[0] / (became[0] + became[2]) - 0.25) < 0.05


def test_changes_are_of_one_decision_and_of_many():
    parent = np.zeros((1, len(NASNET.decisions)), dtype=np.int64)
    differing = (changed(parent, NASNET.decisions, 6000, np.random.default_rng(0)) != parent).sum(1)
    shares = np.bincount(differing, minlength=9) / 6000
    assert differing.max() == max(STEPS) and shares[0] < 0.02, "one that is drawn twice may come back to what it was"
    assert abs(shares[1] - STEPS.count(1) / len(STEPS)) < 0.03
    assert all(shares[steps] > 0.05 for steps in (2, 3, 5, 8))
