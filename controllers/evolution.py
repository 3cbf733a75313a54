"""Regularised (ageing) evolution: Real et al. 2019 (arXiv 1802.01548), algorithm 1. No torch."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from controllers.controller import Outcome, Proposal, random_for
from controllers.moves import mutate, reward_of
from controllers.options import EvolutionOptions
from search_spaces.space import Actions, SearchSpace, check_actions, sample_actions


class Evolution:
    """Mutates the best of a random sample of the last ``population`` children; the oldest child dies, however good.

    Differs from the paper where asynchrony asks for it: the first ``population`` proposals are random whatever has been
    told, and a child enters the population when its outcome arrives.
    """

    def __init__(self, space: SearchSpace, seed: int, options: EvolutionOptions) -> None:
        self.space, self.seed, self.options = space, seed, options
        self.population: deque[tuple[Actions, float]] = deque(maxlen=options.population)
        self.told = 0

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        """A mutated tournament winner; ``redraw`` holds another tournament and, after every eighth, mutates one decision more."""
        rng = random_for(self.seed, "evolution", trial, redraw)
        if self.told + len(pending) < self.options.population or not self.population:
            return Proposal(trial, sample_actions(self.space, rng))
        entrants = rng.choices(self.population, k=self.options.sample)  # with replacement, as the paper's algorithm draws
        parent, _ = max(entrants, key=lambda member: member[1])
        return Proposal(trial, mutate(self.space.decisions, parent, 1 + redraw // 8, rng))

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Add the child to the population, which forgets its oldest."""
        reward = reward_of(outcome)
        if reward is not None:
            self.told += 1
            self.population.append((proposal.actions, reward))

    def state_dict(self) -> dict[str, Any]:
        """The population, oldest first."""
        return {"told": self.told, "population": [[list(actions), reward] for actions, reward in self.population]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises ValueError where it does not fit."""
        try:
            members = [(tuple(int(a) for a in actions), float(reward)) for actions, reward in state["population"]]
            told = int(state["told"])
        except (KeyError, TypeError) as problem:
            raise ValueError(f"not the state of an evolution: {problem!r}") from None
        for actions, _ in members:
            check_actions(self.space.decisions, actions)
        self.population = deque(members, maxlen=self.options.population)
        self.told = told
