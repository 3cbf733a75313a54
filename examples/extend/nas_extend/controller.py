"""The controller ``climb``: draws at random for a while, then changes one decision of the best so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controllers.controller import Completed, Outcome, Proposal, random_for
from controllers.options import option
from controllers.registry import ControllerRow
from search_spaces.space import SearchSpace, sample_actions


@dataclass(frozen=True)
class ClimbOptions:
    """What ``--set controller.options={start: 5}`` may say."""

    start: int = option(10, low=1, text="random proposals before the first step")


class Climb:
    """State changes in ``tell`` alone, and every draw comes from the seed and the trial: so a search can be resumed."""

    def __init__(self, space: SearchSpace, seed: int, options: ClimbOptions) -> None:
        self.space, self.seed, self.options = space, seed, options
        self.best: list[int] = []
        self.reward = -1.0

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        """The best with one decision changed, with one more for every redraw."""
        rng = random_for(self.seed, "climb", trial, redraw)
        actions = list(sample_actions(self.space, rng))
        if self.best and trial >= self.options.start:
            kept = rng.sample(range(len(actions)), max(0, len(actions) - 1 - redraw))
            for decision in kept:
                actions[decision] = self.best[decision]
        return Proposal(trial, tuple(actions))

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Remember the best."""
        if isinstance(outcome, Completed) and outcome.reward > self.reward:
            self.best, self.reward = list(proposal.actions), outcome.reward

    def state_dict(self) -> dict[str, Any]:
        """The best and its reward."""
        return {"best": self.best, "reward": self.reward}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore it. Raises ValueError where it does not fit."""
        if set(state) != {"best", "reward"} or len(state["best"]) not in (0, len(self.space.decisions)):
            raise ValueError(f"climb has the state best and reward, but got {sorted(state)}")
        self.best, self.reward = [int(action) for action in state["best"]], float(state["reward"])


CLIMB = ControllerRow(Climb, ClimbOptions)
