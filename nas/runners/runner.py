"""The contract of runners: jobs in, events out. A runner owns concurrency; what to do about events is the search's business. No ray."""

import math
import traceback
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from controllers.controller import Completed, Failed
from nas.evaluation import Evaluation, Evaluator, Report
from search_spaces.genotype import Genotype


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at training one child."""

    trial: int
    attempt: int
    genotype: Genotype
    seed: int


@dataclass(frozen=True, slots=True)
class Reported:
    """The child finished an epoch."""

    trial: int
    attempt: int
    report: Report


@dataclass(frozen=True, slots=True)
class Ended:
    """The child ended by itself, or was ended by a rule."""

    trial: int
    attempt: int
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker died under the child: nothing is known about the architecture."""

    trial: int
    attempt: int
    detail: str


Event = Reported | Ended | Lost


class Runner(Protocol):
    """Trains children, possibly many at once. Never blocks for longer than ``timeout``, never raises for a child's failure."""

    @property
    def capacity(self) -> int:
        """Children worth having in flight now."""
        ...

    def submit(self, job: Job) -> None:
        """Accept a job; it starts as soon as there is a free worker."""
        ...

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call, in order for each child; waits up to ``timeout`` seconds for the first."""
        ...

    def close(self) -> None:
        """Stop what is running and give everything back."""
        ...


def run_child(evaluator: Evaluator, job: Job, time_limit: float | None) -> Generator[Report, None, Evaluation]:
    """Train one child and turn whatever goes wrong with it into an outcome."""
    try:
        evaluation = yield from evaluator.evaluate(job.genotype, job.seed, time_limit)
    except MemoryError:
        return Evaluation(Failed("out_of_memory", "the host ran out of memory"))
    except Exception as error:
        return Evaluation(Failed("exception", describe(error)))
    outcome = evaluation.outcome
    if isinstance(outcome, Completed) and not math.isfinite(outcome.reward):
        return Evaluation(Failed("diverged", f"the reward is {outcome.reward}"))
    return Evaluation(outcome, {key: value for key, value in evaluation.metrics.items() if math.isfinite(value)})


def describe(error: BaseException) -> str:
    """The exception and the last place it passed in a child's code, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}".replace("\n", " ")[:1000]
