"""What can be wrapped around any controller: the canonical-cell cache. No torch."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from controllers.controller import FAILURE_REASONS, Completed, Controller, Failed, Outcome, Proposal, Stopped, random_for
from controllers.pending import Pending
from search_spaces.canonical import digest
from search_spaces.space import Actions, SearchSpace, sample_actions

MAX_REDRAWS = 64
"""Other proposals asked of the controller before cells are drawn uniformly."""
MAX_UNIFORM_DRAWS = 200
"""Uniform draws of cells trained or in training before a repeat is accepted: 200 in a row mean that over 97 % of the space is trained."""
MAX_REFUSED_DRAWS = 1_000
"""Uniform draws that may not be trained before the search gives up: a limit that one cell in 200 keeps is met 99 times in 100."""


def may_be_trained(actions: Actions) -> str | None:
    """Nothing speaks against a cell."""
    return None


class Deduplicated:
    """Never proposes a cell that has been trained or is being trained, as long as there is another.

    Cells are compared by the space's canonical key, or by ``key`` of the actions. A repeat is not paid for and not
    answered from memory either: the controller is asked to redraw, ever hotter, so that a sharp policy goes on exploring
    around its mode. Where even uniform draws find nothing new, a repeat is proposed, and ``recall`` has its outcome. A
    cell whose worker was lost counts as untrained.
    """

    def __init__(
        self,
        controller: Controller,
        space: SearchSpace,
        seed: int,
        key: Callable[[Actions], str] | None = None,
        refusal: Callable[[Actions], str | None] = may_be_trained,
    ) -> None:
        self.controller, self.space, self.seed = controller, space, seed
        self.trained: dict[str, tuple[int, Outcome]] = {}
        self.refusal = refusal
        """Why cells may not be trained, None where they may: a function of the actions alone. They are drawn again like repeats."""
        self.redrawn: Counter[str] = Counter()
        """How many proposals the last ``ask`` drew again because they may not be trained, by reason."""
        self._key = lru_cache(maxsize=16_384)(key or self._digest)  # a pure function of the actions is remembered: it is no state

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        """The controller's first proposal that is new and may be trained, else a uniform one that is, else a repeat or what may not."""
        self.redrawn = Counter()
        pending = Pending.of(pending)
        busy = pending.counts(self.key)
        repeat: Proposal | None = None
        for draw in range(redraw, redraw + MAX_REDRAWS):
            proposal = self.controller.ask(trial, pending, draw)
            key = self._key(proposal.actions)
            if key not in self.trained and key not in busy and self._allowed(proposal):
                return proposal
            if key in self.trained:
                repeat = repeat or proposal
        rng = random_for(self.seed, "uniform", trial, redraw)
        repeats = refused = 0
        while repeats < MAX_UNIFORM_DRAWS and refused < MAX_REFUSED_DRAWS:
            fresh = Proposal(trial, sample_actions(self.space, rng, weighed=False), policy_version=proposal.policy_version)
            key = self._key(fresh.actions)
            if key in self.trained or key in busy:
                repeats += 1
                repeat = repeat or (fresh if key in self.trained else None)
            elif self._allowed(fresh):
                return fresh
            else:
                refused += 1
        return repeat or proposal

    def _allowed(self, proposal: Proposal) -> bool:
        reason = self.refusal(proposal.actions)
        if reason is not None:
            self.redrawn[reason] += 1
        return reason is None

    def recall(self, proposal: Proposal) -> tuple[int, Outcome] | None:
        """The trial that has trained the same cells, and its outcome; None where none has."""
        return self.trained.get(self.key(proposal))

    def is_pending(self, proposal: Proposal, pending: Sequence[Proposal]) -> bool:
        """Whether the same cells are being trained now: then there is nothing new to propose until one of them has ended."""
        return self.key(proposal) in Pending.of(pending).counts(self.key)

    def key(self, proposal: Proposal) -> str:
        """What proposals of the same cells have in common."""
        return self._key(proposal.actions)

    def tell(self, proposal: Proposal, outcome: Outcome) -> Mapping[str, float] | None:
        """Remember the cell and pass the outcome on."""
        self.remember(proposal, self.key(proposal), outcome)
        return self.pass_on(proposal, outcome)

    def pass_on(self, proposal: Proposal, outcome: Outcome) -> Mapping[str, float] | None:
        """Half of ``tell``: let the controller learn. What comes from a higher rung only one that says ``learns_from_rungs``."""
        if proposal.rung and not getattr(self.controller, "learns_from_rungs", False):
            return None
        return self.controller.tell(proposal, outcome)

    def remember(self, proposal: Proposal, key: str, outcome: Outcome) -> None:
        """Half of ``tell``: remember how the cell of this key ended, in the search itself: that answers a repeat, no higher rung does."""
        if proposal.rung or (isinstance(outcome, Failed) and outcome.reason == "worker_lost"):
            return
        known = self.trained.get(key)
        if known is None or (isinstance(outcome, Completed) and not isinstance(known[1], Completed)):
            self.trained[key] = (proposal.trial, outcome)

    def state_dict(self) -> dict[str, Any]:
        """One short line for every cell trained, and the controller's own state."""
        cells = {key: [trial, *_pack(outcome)] for key, (trial, outcome) in self.trained.items()}
        return {"cells": cells, "controller": self.controller.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises ValueError where it does not fit."""
        try:
            trained = {str(key): (int(line[0]), _unpack(line[1:])) for key, line in state["cells"].items()}
            inner = state["controller"]
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as problem:
            raise ValueError(f"not the state of a canonical-cell cache: {problem!r}") from None
        self.controller.load_state_dict(inner)
        self.trained = trained

    def _digest(self, actions: Actions) -> str:
        return digest(self.space.canonical(self.space.decode(actions)))


def _pack(outcome: Outcome) -> list[Any]:
    match outcome:
        case Completed(reward):
            return ["completed", reward]
        case Stopped(rung, reward):
            return ["stopped", rung, reward]
        case Failed(reason, detail):
            return ["failed", reason, detail]


def _unpack(line: Sequence[Any]) -> Outcome:
    match list(line):
        case ["completed", float(reward)]:
            return Completed(reward)
        case ["stopped", int(rung), float(reward)]:
            return Stopped(rung, reward)
        case ["failed", str(reason), str(detail)] if reason in FAILURE_REASONS:
            return Failed(reason, detail)
    raise ValueError(f"not an outcome: {list(line)!r}")
