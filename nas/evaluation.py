"""The contract between the search and whatever scores a child: reports while it trains, an outcome at the end. No torch, no ray."""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Protocol

from controllers.controller import Outcome
from search_spaces.genotype import Genotype


@dataclass(frozen=True, slots=True)
class Report:
    """What a child has reached after an epoch. ``reward`` is its validation accuracy in [0, 1]."""

    epoch: int
    reward: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How a child ended, with what was measured on the way (params, seconds, …)."""

    outcome: Outcome
    metrics: dict[str, float] = field(default_factory=dict)


class Evaluator(Protocol):
    """Scores genotypes. Built once per worker (it may hold the data set), then used for many children."""

    def evaluate(self, genotype: Genotype, seed: int, time_limit: float | None) -> Generator[Report, None, Evaluation]:
        """Yield a report after every epoch and return the evaluation. Closing the generator stops the child.

        A child that diverges, runs out of memory or passes ``time_limit`` seconds returns ``Failed``; an exception that
        escapes is recorded by the runner as ``Failed("exception")``.
        """
        ...
