"""Local search: first improvement, each neighbour once, restarts; late outcomes do not confuse it."""

from support.contracts import SMALL_SPACE, reward_for

from controllers.controller import Completed, Failed
from controllers.local_search import LocalSearch
from controllers.moves import neighbours


def distance(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_moves_on_the_first_gain_and_tries_no_neighbour_twice():
    search = LocalSearch(SMALL_SPACE, 0)
    start = search.ask(0, [])
    search.tell(start, Completed(0.5))
    seen = []
    for trial in range(1, 8):
        proposal = search.ask(trial, [])
        assert distance(proposal.actions, start.actions) == 1
        seen.append(proposal.actions)
        search.tell(proposal, Completed(0.5))
    assert len(set(seen)) == 7
    better = search.ask(8, [])
    search.tell(better, Completed(0.6))
    assert distance(search.ask(9, []).actions, better.actions) == 1
    assert search.centre == better.actions


def test_restarts_when_no_neighbour_is_left():
    search = LocalSearch(SMALL_SPACE, 1)
    search.tell(first := search.ask(0, []), Completed(0.5))
    around = len(neighbours(SMALL_SPACE.decisions, first.actions))
    for trial in range(1, 1 + around):
        proposal = search.ask(trial, [])
        assert distance(proposal.actions, first.actions) == 1
        search.tell(proposal, Failed("diverged") if trial % 2 else Completed(0.4))
    restart = search.ask(1 + around, [])
    assert distance(restart.actions, first.actions) > 1
    search.tell(restart, Completed(0.2))
    assert search.centre == restart.actions and search.descent == first.policy_version + 1


def test_pending_neighbours_are_not_proposed_again_and_late_outcomes_can_still_win():
    search = LocalSearch(SMALL_SPACE, 2)
    search.tell(start := search.ask(0, []), Completed(0.5))
    flying = []
    for trial in range(1, 12):
        flying.append(search.ask(trial, flying))
    assert len({proposal.actions for proposal in flying}) == 11
    search.tell(flying[3], Completed(0.6))
    search.tell(flying[0], Completed(0.55))  # a neighbour of the old centre, better than that but not than the new one
    assert search.centre == flying[3].actions
    search.tell(flying[1], Completed(0.7))
    assert search.centre == flying[1].actions
    assert start.policy_version == flying[1].policy_version == 0


def test_reaches_the_top_of_a_smooth_hill():
    search = LocalSearch(SMALL_SPACE, 3)
    best = 0.0
    for trial in range(200):
        proposal = search.ask(trial, [])
        best = max(best, reward_for(proposal.actions))
        search.tell(proposal, Completed(reward_for(proposal.actions)))
    assert best == 1.0
