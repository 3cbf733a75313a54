"""Random search, the reference line of Zoph et al. (2018, section 4.4): decisions drawn evenly, or by the space's weights. No torch."""

from collections.abc import Mapping, Sequence
from typing import Any

from controllers.controller import Outcome, Proposal, random_for
from search_spaces.space import SearchSpace, sample_actions


class RandomSearch:
    """Proposes without memory; a trial's proposal depends on the seed and the trial's number alone."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.seed = space, seed

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        """A random sample; another one for every ``redraw``."""
        return Proposal(trial, sample_actions(self.space, random_for(self.seed, "random", trial, redraw)))

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Outcomes change nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Accept the empty state. Raises ValueError for any other."""
        if state:
            raise ValueError(f"random search has no state, but got {sorted(state)}")
