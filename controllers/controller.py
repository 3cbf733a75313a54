"""The contract between a search and whatever decides what to try next: proposals, outcomes, ask and tell. No torch."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a controller wants trained, as plain numbers, so that it survives in a ledger and in a message.

    ``log_probs`` has the log-probability of every action under the policy that sampled it (empty for controllers
    without a policy), and ``policy_version`` counts that policy's updates: outcomes may arrive many versions later.
    ``rung`` is 0 for what a controller proposes; a cell that is trained again at a higher fidelity comes back with the number of that
    rung, to those controllers alone that ask for it (``Deduplicated.pass_on``).
    """

    trial: int
    actions: tuple[int, ...]
    log_probs: tuple[float, ...] = ()
    policy_version: int = 0
    rung: int = 0


class RewardError(ValueError):
    """What is said to be a reward is none. ``reason`` is the failure that it amounts to, one of FAILURE_REASONS."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


def as_number(value: object) -> float:
    """The value as a float (numpy's and torch's scalars too); NaN where it is no number."""
    try:
        return math.nan if isinstance(value, bool | str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def as_reward(value: object) -> float:
    """The value as a reward. Raises RewardError where it is no finite number, or lies outside [0, 1]."""
    number = as_number(value)
    if not math.isfinite(number):
        raise RewardError(f"the reward is {value!r}", "diverged")
    if not 0 <= number <= 1:
        raise RewardError(f"a reward must be a share in [0, 1], but it is {number:g}", "exception")
    return number


@dataclass(frozen=True, slots=True)
class Completed:
    """Trained to the end. ``reward`` is the validation accuracy in [0, 1].

    There is no outcome with another one, so that no controller, ledger or table ever meets it. Raises RewardError.
    """

    reward: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "reward", as_reward(self.reward))


@dataclass(frozen=True, slots=True)
class Stopped:
    """Stopped early at a rung because others were better there; ``reward`` is the accuracy it had, as in ``Completed``."""

    rung: int
    reward: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "reward", as_reward(self.reward))


@dataclass(frozen=True, slots=True)
class Failed:
    """No usable reward. ``reason`` is one of FAILURE_REASONS; ``detail`` is for people."""

    reason: str
    detail: str = ""


FAILURE_REASONS = ("exception", "diverged", "out_of_memory", "time_limit", "worker_lost", "hung")
"""Why a child can fail. All but ``worker_lost`` are counted against the architecture."""

Outcome = Completed | Stopped | Failed


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier search trained: architectures of the same space with their rewards, on whatever images and for however long.

    ``source`` names it, for people. Only the order of the rewards means anything in another search.
    """

    source: str
    trained: tuple[tuple[tuple[int, ...], float], ...]


class Controller(Protocol):
    """Decides which architecture to try next.

    Durable state changes only in ``tell``. ``ask`` is a function of that state, the trial's number, the pending
    proposals and ``redraw``; every random draw comes from a generator seeded by them (``random_for``). So a controller is
    rebuilt exactly by telling it the recorded outcomes in order. Outcomes may arrive late, out of order, or never.

    One that learns from earlier searches is a ``Beginner`` besides, and its row in the registry says so.
    """

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        """The proposal for trial number ``trial``, given those still being trained.

        ``redraw`` > 0 asks for another proposal because the first ``redraw`` ones repeat cells already trained: explore harder.
        """
        ...

    def tell(self, proposal: Proposal, outcome: Outcome) -> Mapping[str, float] | None:
        """Learn how a proposal ended. Returns telemetry where this outcome completed an update of a policy, else None."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The durable state: nested dictionaries and lists of strings, numbers, None and torch tensors."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises ValueError where it does not fit."""
        ...


@runtime_checkable
class Beginner(Protocol):
    """A controller that learns from earlier searches."""

    def begin_with(self, earlier: Sequence[Earlier]) -> None:
        """Learn from earlier searches: called once, when it has just been made. What it was given is no part of its durable state."""
        ...


def random_for(seed: int, *labels: object) -> random.Random:
    """A generator that depends only on the seed and the labels: the same in every process and on every machine."""
    return random.Random("/".join(str(part) for part in (seed, *labels)))  # noqa: S311 - not for secrets
