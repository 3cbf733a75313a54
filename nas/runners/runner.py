"""The contract of runners: jobs in, events out. A runner owns concurrency; what to do about events is the search's business. No ray."""

import time
import traceback
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from controllers.controller import Failed, RewardError
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Evaluator, Report, finite
from nas.evaluators.settings import Fidelity
from search_spaces.genotype import Genotype


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt at training one child; ``checkpoint`` is a file of the driver's with what an earlier attempt has reached.

    ``rung`` is that of the ladder, 0 the search's own; ``fidelity`` is the child's own, None the configuration's.
    """

    trial: int
    attempt: int
    genotype: Genotype
    seed: int
    batch_divisor: int = 1
    checkpoint: Path | None = None
    fidelity: Fidelity | None = None
    rung: int = 0

    def limit(self, seconds: float | None) -> float | None:
        """The seconds it may take where the search's own children may take so many: a higher rung's take as long as they take."""
        return None if self.rung else seconds


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
    """The attempt came to nothing: its worker died (``worker_lost``), was out of memory, or hung. The search decides on another."""

    trial: int
    attempt: int
    detail: str
    reason: str = "worker_lost"


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

    def stop(self, trial: int) -> None:
        """Stop training a child as soon as possible: its outcome is known. Nothing more need be said of it."""
        ...

    def close(self) -> None:
        """Stop what is running and give everything back."""
        ...


def read_checkpoint(job: Job) -> bytes | None:
    """The state that an attempt goes on from; None where there is none, or its file cannot be read (the child starts anew)."""
    try:
        return None if job.checkpoint is None else job.checkpoint.read_bytes()
    except OSError:
        return None


def checkpoint_rule(rungs: Collection[int], seconds: float) -> Callable[[int], bool]:
    """When one child's state is kept: at every rung, and at the end of the first epoch that ends ``seconds`` after the last time."""
    last = time.monotonic()

    def keep(epoch: int) -> bool:
        nonlocal last
        due = epoch in rungs or time.monotonic() - last >= seconds
        if due:
            last = time.monotonic()
        return due

    return keep


def run_child(evaluator: Evaluator, job: Job, time_limit: float | None, attempt: Attempt = FRESH) -> Generator[Report, None, Evaluation]:
    """Train one child and turn whatever goes wrong with it into an outcome."""
    try:
        evaluation = yield from evaluator.evaluate(job.genotype, job.seed, job.limit(time_limit), attempt)
        return Evaluation(evaluation.outcome, finite(evaluation.metrics))
    except RewardError as error:
        return Evaluation(Failed(error.reason, str(error)))
    except MemoryError:
        return Evaluation(Failed("out_of_memory", "the host ran out of memory"))
    except Exception as error:
        return Evaluation(Failed("exception", describe(error)))


def describe(error: BaseException) -> str:
    """The exception and the last place it passed in a child's code, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}".replace("\n", " ")[:1000]
