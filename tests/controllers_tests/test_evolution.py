"""Regularised evolution: random start, tournament, one mutation, ageing."""

from collections import Counter

from support.contracts import SMALL_SPACE

from controllers.controller import Completed, Failed, Proposal, random_for
from controllers.evolution import Evolution
from controllers.moves import mutate, neighbours
from controllers.options import EvolutionOptions
from search_spaces.space import Decision

SIZES = [len(decision.choices) for decision in SMALL_SPACE.decisions]


def distance(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


def test_mutation_changes_exactly_so_many_decisions_and_reaches_every_neighbour():
    rng = random_for(0, "test")
    start = tuple(size - 1 for size in SIZES)
    for changes in (1, 2, 5):
        assert {distance(start, mutate(SMALL_SPACE.decisions, start, changes, rng)) for _ in range(200)} == {changes}
    reached = {mutate(SMALL_SPACE.decisions, start, 1, rng) for _ in range(3000)}
    assert reached == set(neighbours(SMALL_SPACE.decisions, start))
    assert len(reached) == sum(size - 1 for size in SIZES)
    assert len(mutate(SMALL_SPACE.decisions, start, 999, rng)) == len(SIZES)


def test_mutations_become_what_the_weights_favour():
    decisions, rng = (Decision("a", ("x", "y", "z"), (1.0, 6.0, 3.0)),), random_for(0, "weights")
    became = Counter(mutate(decisions, (1,), 1, rng)[0] for _ in range(4000))
    assert set(became) == {0, 2} and abs(became[0] / 4000 - 0.25) < 0.03  # 1 to 3, without the 6 of what it was


def test_first_population_is_random_then_children_are_mutants_of_the_best_of_the_sample():
    evolution = Evolution(SMALL_SPACE, 0, EvolutionOptions(population=5, sample=50))
    for trial in range(5):
        proposal = evolution.ask(trial, [])
        evolution.tell(proposal, Completed(0.9 if trial == 3 else 0.1 * trial))
        if trial == 3:
            best = proposal.actions
    assert [distance(best, evolution.ask(trial, []).actions) for trial in range(5, 25)] == [1] * 20
    assert distance(best, evolution.ask(5, [], redraw=8).actions) == 2


def test_the_oldest_dies_however_good():
    evolution = Evolution(SMALL_SPACE, 0, EvolutionOptions(population=2, sample=50))
    champion, weak, weaker = (tuple(min(choice, size - 1) for size in SIZES) for choice in (0, 1, 2))
    for trial, (actions, reward) in enumerate([(champion, 0.9), (weak, 0.2), (weaker, 0.1)]):
        evolution.tell(Proposal(trial, actions), Completed(reward))
    assert distance(weak, evolution.ask(3, []).actions) == 1


def test_pending_children_count_towards_the_first_population_and_failures_are_the_worst():
    evolution = Evolution(SMALL_SPACE, 0, EvolutionOptions(population=3, sample=50))
    good, failed = (tuple(min(choice, size - 1) for size in SIZES) for choice in (0, 1))
    evolution.tell(Proposal(0, failed), Failed("diverged"))
    evolution.tell(Proposal(1, good), Completed(0.01))
    assert distance(good, evolution.ask(2, []).actions) > 1
    assert distance(good, evolution.ask(2, [Proposal(9, failed)]).actions) == 1
