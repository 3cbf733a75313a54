"""Local search: first improvement among the neighbours of a cell, random restarts (White et al. 2020, arXiv 2005.02960). No torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from controllers.controller import Outcome, Proposal, random_for
from controllers.moves import neighbours, reward_of
from controllers.pending import Pending, actions_of
from search_spaces.space import Actions, SearchSpace, check_actions, sample_actions


class LocalSearch:
    """Tries the cells that differ in one decision from the centre, in random order, and moves on the first gain.

    Where no neighbour is left to propose it starts from a random cell. A proposal's ``policy_version`` is the number of
    the descent it belongs to, so a late outcome is never taken for the start of a new descent.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.seed = space, seed
        self.descent = 0
        self.centre: Actions | None = None
        self.centre_reward = 0.0
        self.tried: set[Actions] = set()
        self._order: tuple[Actions, list[Actions]] | None = None  # derived from the centre

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        """The next neighbour that is neither told nor pending (``redraw`` skips as many more), or a random start."""
        if self.centre is not None:
            busy = Pending.of(pending).counts(actions_of)
            left = redraw
            for actions in self._shuffled_neighbours(self.centre):
                if actions not in self.tried and actions not in busy:
                    if left == 0:
                        return Proposal(trial, actions, policy_version=self.descent)
                    left -= 1
        start = sample_actions(self.space, random_for(self.seed, "start", trial, redraw))
        return Proposal(trial, start, policy_version=self.descent + (self.centre is not None))

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Move to the cell if it gains, or if it starts a new descent; else remember that it was tried."""
        reward = reward_of(outcome)
        if reward is None:
            return
        if self.centre is None or proposal.policy_version > self.descent or reward > self.centre_reward:
            self.centre, self.centre_reward = proposal.actions, reward
            self.descent = max(self.descent, proposal.policy_version)
            self.tried = {proposal.actions}
        elif proposal.policy_version == self.descent and self._is_neighbour(proposal.actions):
            self.tried.add(proposal.actions)

    def state_dict(self) -> dict[str, Any]:
        """The centre and which of its neighbours were tried: never more than one neighbourhood."""
        return {
            "descent": self.descent,
            "centre": None if self.centre is None else list(self.centre),
            "centre_reward": self.centre_reward,
            "tried": sorted(list(actions) for actions in self.tried),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises ValueError where it does not fit."""
        try:
            centre = None if state["centre"] is None else tuple(int(a) for a in state["centre"])
            tried = {tuple(int(a) for a in actions) for actions in state["tried"]}
            descent, reward = int(state["descent"]), float(state["centre_reward"])
        except (KeyError, TypeError) as problem:
            raise ValueError(f"not the state of a local search: {problem!r}") from None
        for actions in tried if centre is None else {centre, *tried}:
            check_actions(self.space.decisions, actions)
        self.descent, self.centre, self.centre_reward, self.tried = descent, centre, reward, tried

    def _shuffled_neighbours(self, centre: Actions) -> list[Actions]:
        if self._order is None or self._order[0] != centre:
            ordered = neighbours(self.space.decisions, centre)
            random_for(self.seed, "neighbours", *centre).shuffle(ordered)
            self._order = centre, ordered
        return self._order[1]

    def _is_neighbour(self, actions: Actions) -> bool:
        assert self.centre is not None
        return sum(a != b for a, b in zip(actions, self.centre, strict=True)) <= 1
