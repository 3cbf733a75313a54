"""The contract between the search and whatever scores a child: reports while it trains, an outcome at the end. No torch, no ray."""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from controllers.controller import Outcome, as_number, as_reward
from nas.evaluators.settings import Fidelity
from search_spaces.genotype import Genotype


@dataclass(frozen=True, slots=True)
class Report:
    """What a child has reached after an epoch. ``reward`` is its validation accuracy in [0, 1]; RewardError where it is not.

    ``checkpoint`` is the state of the child's training after this epoch, where the attempt asked to keep it.
    """

    epoch: int
    reward: float
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: bytes | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reward", as_reward(self.reward))


def finite(metrics: Mapping[str, object]) -> dict[str, float]:
    """What was measured, as a ledger can hold it: values that are no finite number are left out."""
    numbers = {str(key): as_number(value) for key, value in metrics.items()}
    return {key: number for key, number in numbers.items() if math.isfinite(number)}


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt at training a child is given besides genotype and seed. The defaults are those of a plain first attempt.

    ``checkpoint`` is where an earlier attempt had come to; an evaluator starts from the beginning where it does not fit.
    ``batch_divisor`` of 2 asks for half the memory (after an attempt that had too little). ``keep`` says whether the state
    after an epoch shall be in its report. ``beat`` is called at every sign of life, such as a batch; silence counts as hanging.
    ``rung`` is the rung of the configuration's ladder that the child is trained at, 0 being the search's own. ``fidelity`` is how
    thoroughly it is to be evaluated, where that is not the search's: at a higher rung, the rung's; an evaluator that has no such
    fidelity raises ConfigError.
    """

    checkpoint: bytes | None = None
    batch_divisor: int = 1
    keep: Callable[[int], bool] = lambda epoch: False
    beat: Callable[[], None] = lambda: None
    fidelity: Fidelity | None = None
    rung: int = 0


FRESH = Attempt()
"""A first attempt that nobody watches and that keeps nothing."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a child ended, with what was measured on the way (params, seconds, …)."""

    outcome: Outcome
    metrics: dict[str, float] = field(default_factory=dict)


class Evaluator(Protocol):
    """Scores genotypes. Built once per worker (it may hold the data set), then used for many children."""

    def evaluate(
        self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
    ) -> Generator[Report, None, Evaluation]:
        """Yield a report after every epoch and return the evaluation. Closing the generator stops the child.

        With a checkpoint that fits, the first report is that of the epoch after it, and all that follows is as if there had
        been no interruption.

        A child that diverges, runs out of memory or passes ``time_limit`` seconds returns ``Failed``; an exception that
        escapes is recorded by the runner as ``Failed("exception")``, and a reward that is NaN or infinite as
        ``Failed("diverged")``.
        """
        ...
