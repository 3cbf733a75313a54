"""Makes an evaluator of a function from genotypes to rewards. No torch, no ray."""

from collections.abc import Callable, Generator
from numbers import Real

from controllers.controller import Completed
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from search_spaces.genotype import Genotype


class FunctionEvaluator:
    """Scores a genotype by calling ``function(genotype)``, which returns the reward in [0, 1] or raises: then the child failed."""

    def __init__(self, function: Callable[[Genotype], float]) -> None:
        self._function = function

    def evaluate(
        self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
    ) -> Generator[Report, None, Evaluation]:
        """No reports, one reward. ``seed`` and ``time_limit`` are not used: what the function takes is the genotype."""
        yield from ()
        reward = self._function(genotype)
        if not isinstance(reward, Real):
            raise TypeError(f"an evaluator's function must return a number, but got {type(reward).__name__}")
        return Evaluation(Completed(float(reward)))
