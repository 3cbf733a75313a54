"""The canonical-cell cache: no cell twice while there is another, ever hotter redraws, recall when the space is exhausted."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from support.contracts import SMALL_SPACE, disorderly_history

from controllers.controller import Completed, Failed, Proposal, Stopped, random_for
from controllers.deduplicated import MAX_REDRAWS, Deduplicated
from controllers.random_search import RandomSearch
from controllers.registry import CONTROLLERS, make_controller
from search_spaces.space import CellSpace, favouring, sample_actions, size

TINY = CellSpace("tiny", operations=("identity", "sep_conv_3x3"), nodes=1, combine=("add",), cells=("normal",))
"""16 action sequences; swapping the two edges gives the same network, so 10 cells."""


@dataclass
class Stubborn:
    """Proposes the same actions until the given redraw; records what it was asked."""

    actions: tuple[int, ...]
    gives_in_at: int = 10**9
    redraws: list[int] = field(default_factory=list)

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        self.redraws.append(redraw)
        other = sample_actions(SMALL_SPACE, random_for(0, trial, redraw))
        return Proposal(trial, self.actions if redraw < self.gives_in_at else other, policy_version=7)

    def tell(self, proposal, outcome):
        return None

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


ZEROS = (0,) * len(SMALL_SPACE.decisions)


def test_asks_for_redraws_until_the_cell_is_new():
    inner = Stubborn(ZEROS, gives_in_at=5)
    cache = Deduplicated(inner, SMALL_SPACE, 0)
    assert cache.ask(0, []).actions == ZEROS
    cache.tell(Proposal(0, ZEROS), Completed(0.5))
    inner.redraws.clear()
    assert cache.ask(1, []).actions != ZEROS
    assert inner.redraws == [0, 1, 2, 3, 4, 5]


def test_draws_uniformly_from_a_controller_that_never_gives_in():
    inner = Stubborn(ZEROS)
    cache = Deduplicated(inner, SMALL_SPACE, 0)
    cache.tell(Proposal(0, ZEROS), Completed(0.5))
    proposal = cache.ask(1, [])
    assert proposal.actions != ZEROS and proposal.log_probs == () and proposal.policy_version == 7
    assert len(inner.redraws) == MAX_REDRAWS


def test_cells_that_are_hardly_ever_drawn_are_found_before_a_space_counts_as_searched_through():
    """With cheap draws one sequence in 484 has two separable convolutions."""
    cache = Deduplicated(RandomSearch(favouring(TINY, "cheap"), 0), favouring(TINY, "cheap"), 0)
    keys = set()
    for trial in range(10):
        proposal = cache.ask(trial, [])
        assert cache.recall(proposal) is None
        keys.add(cache.key(proposal))
        cache.tell(proposal, Completed(0.5))
    assert len(keys) == 10 and cache.recall(cache.ask(10, [])) is not None


def test_a_limit_that_few_cells_keep_is_kept_and_ends_no_search():
    """One cell in 150 may be trained: 200 draws once missed it in a quarter of the proposals, and the space was called exhausted."""

    def refusal(actions: tuple[int, ...]) -> str | None:
        return None if random_for(0, *actions).random() < 1 / 150 else "too large"

    cache = Deduplicated(Stubborn(ZEROS), SMALL_SPACE, 0, refusal=refusal)
    for trial in range(20):
        proposal = cache.ask(trial, [])
        assert refusal(proposal.actions) is None
        cache.tell(proposal, Completed(0.5))


def test_pending_cells_are_not_proposed_and_equivalent_ones_neither():
    cache = Deduplicated(Stubborn((0, 1, 0, 1)), TINY, 0)  # previous·identity + current·sep_conv
    pending = [Proposal(0, (1, 0, 1, 0))]  # the same with the edges swapped
    proposal = cache.ask(1, pending)
    assert TINY.canonical(TINY.decode(proposal.actions)) != TINY.canonical(TINY.decode((0, 1, 0, 1)))


@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_every_cell_of_a_tiny_space_once_then_recall(name):
    """Each controller trains all 10 cells in its first 10 trials; then it repeats, and the repeat is recalled."""
    cache = Deduplicated(make_controller(name, TINY, 0), TINY, 0)
    assert size(TINY) == 16
    outcomes = {}
    for trial in range(10):
        proposal = cache.ask(trial, [])
        assert cache.recall(proposal) is None
        outcomes[TINY.canonical(TINY.decode(proposal.actions))] = (trial, Completed(trial / 10))
        cache.tell(proposal, Completed(trial / 10))
    assert len(outcomes) == 10
    repeat = cache.ask(10, [])
    assert cache.recall(repeat) == outcomes[TINY.canonical(TINY.decode(repeat.actions))]


def test_what_counts_as_trained():
    cache = Deduplicated(RandomSearch(SMALL_SPACE, 0), SMALL_SPACE, 0)
    proposal = Proposal(0, ZEROS)
    cache.tell(proposal, Failed("worker_lost"))
    assert cache.recall(proposal) is None
    cache.tell(proposal, Stopped(1, 0.3))
    assert cache.recall(proposal) == (0, Stopped(1, 0.3))
    cache.tell(Proposal(5, ZEROS), Completed(0.6))
    assert cache.recall(proposal) == (5, Completed(0.6))
    cache.tell(Proposal(6, ZEROS), Completed(0.7))
    assert cache.recall(proposal) == (5, Completed(0.6))
    other = Proposal(7, (1, *ZEROS[1:]))
    cache.tell(other, Failed("diverged", "loss is nan"))
    assert cache.recall(other) == (7, Failed("diverged", "loss is nan"))


def test_no_cell_twice_in_a_disorderly_search():
    cache = Deduplicated(make_controller("ppo", SMALL_SPACE, 3, {"hidden": 16}), SMALL_SPACE, 3)
    told, _, asked = disorderly_history(cache, 120)
    lost = {proposal.trial for proposal, outcome in told if outcome == Failed("worker_lost")}
    cells = [SMALL_SPACE.canonical(SMALL_SPACE.decode(proposal.actions)) for proposal in asked if proposal.trial not in lost]
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize(
    "cells", [{"k": [1, "completed"]}, {"k": [1, "failed", "bored", ""]}, {"k": ["x", "completed", 0.5]}, {"k": 3}, [1]], ids=str
)
def test_broken_states_are_refused(cells):
    cache = Deduplicated(RandomSearch(SMALL_SPACE, 0), SMALL_SPACE, 0)
    with pytest.raises(ValueError, match="not"):
        cache.load_state_dict({"cells": cells, "controller": {}})
