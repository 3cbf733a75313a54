"""Moves and rules that several controllers share: changing one decision, and what an outcome is worth. No torch."""

import random
from collections.abc import Sequence

from controllers.controller import Failed, Outcome
from search_spaces.space import Actions, Decision, drawn

FAILED_REWARD = 0.0
"""What a child is worth that diverged, ran out of memory or of time: the architecture is to blame, and 0 is the worst accuracy."""


def reward_of(outcome: Outcome) -> float | None:
    """The reward to learn from, in [0, 1]; None where nothing is learnt because the machinery failed, not the architecture."""
    if isinstance(outcome, Failed):
        return None if outcome.reason == "worker_lost" else FAILED_REWARD
    return outcome.reward


def mutate(decisions: Sequence[Decision], actions: Actions, changes: int, rng: random.Random) -> Actions:
    """Actions with ``changes`` decisions (at most all) moved to another choice: decisions drawn evenly, choices by their weights."""
    free = [i for i, decision in enumerate(decisions) if len(decision.choices) > 1]
    mutated = list(actions)
    for i in rng.sample(free, min(changes, len(free))):
        others = [choice for choice in range(len(decisions[i].choices)) if choice != actions[i]]
        weights = decisions[i].weights and [decisions[i].weights[choice] for choice in others]
        mutated[i] = drawn(others, weights, rng)
    return tuple(mutated)


def neighbours(decisions: Sequence[Decision], actions: Actions) -> list[Actions]:
    """All action sequences that differ in exactly one decision."""
    return [
        (*actions[:i], choice, *actions[i + 1 :])
        for i, decision in enumerate(decisions)
        for choice in range(len(decision.choices))
        if choice != actions[i]
    ]
