"""Makes a controller of a function that chooses the next actions from what is known so far. No torch."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from controllers.controller import Outcome, Proposal, random_for
from controllers.moves import reward_of
from search_spaces.space import Actions, SearchSpace, check_actions

History = list[tuple[Actions, float | None]]
"""Actions and reward of every trial told so far, in the order of telling: 0 for one that failed, None where its worker was lost."""
Choice = Callable[[SearchSpace, History, random.Random], Sequence[int]]


class FunctionController:
    """Proposes what ``choose(space, history, rng)`` returns: one index for every decision of the space.

    All chance must come from ``rng``, which differs from trial to trial and from redraw to redraw: so a resumed search proposes
    what an uninterrupted one would have proposed.
    """

    def __init__(self, choose: Choice, space: SearchSpace, seed: int) -> None:
        self._choose, self.space, self.seed = choose, space, seed
        self.history: History = []

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        """What the function chooses. Raises GenotypeError where it does not fit the decisions."""
        chosen = self._choose(self.space, list(self.history), random_for(self.seed, "function", trial, redraw))
        actions = tuple(int(action) for action in chosen)
        check_actions(self.space.decisions, actions)
        return Proposal(trial, actions)

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Remember the actions and their reward."""
        self.history.append((proposal.actions, reward_of(outcome)))

    def state_dict(self) -> dict[str, Any]:
        """The history."""
        return {"history": [[list(actions), reward] for actions, reward in self.history]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises ValueError where it does not fit."""
        try:
            history: History = [
                (tuple(int(a) for a in actions), None if reward is None else float(reward)) for actions, reward in state["history"]
            ]
            for actions, _ in history:
                check_actions(self.space.decisions, actions)
        except (KeyError, TypeError, ValueError) as problem:
            raise ValueError(f"not the state of a function's controller: {problem}") from None
        self.history = history
