"""Trains children one after the other inside this process: for tests, debugging and machines where Ray does not run."""

import math
from collections import deque
from collections.abc import Collection, Generator

from nas.evaluators.evaluator import Attempt, Evaluation, Evaluator, Report
from nas.runners.runner import Ended, Event, Job, Reported, checkpoint_rule, read_checkpoint, run_child


class LocalRunner:
    """One child at a time; every ``poll`` trains the current child for one epoch. A child that hangs is not noticed here.

    Children's states are kept at the ``rungs``, and every ``checkpoint_seconds``.
    """

    capacity = 1

    def __init__(
        self, evaluator: Evaluator, time_limit: float | None = None, rungs: Collection[int] = (), checkpoint_seconds: float = math.inf
    ) -> None:
        self._evaluator = evaluator
        self._time_limit = time_limit
        self._rungs, self._checkpoint_seconds = rungs, checkpoint_seconds
        self._waiting: deque[Job] = deque()
        self._current: tuple[Job, Generator[Report, None, Evaluation]] | None = None

    def submit(self, job: Job) -> None:
        """Accept a job; it starts as soon as the one before has ended."""
        self._waiting.append(job)

    def poll(self, timeout: float) -> list[Event]:
        """Train one epoch. ``timeout`` is not used: an epoch takes as long as it takes."""
        if self._current is None:
            if not self._waiting:
                return []
            job = self._waiting.popleft()
            rule = checkpoint_rule(self._rungs, self._checkpoint_seconds)
            attempt = Attempt(read_checkpoint(job), job.batch_divisor, rule, fidelity=job.fidelity, rung=job.rung)
            self._current = job, run_child(self._evaluator, job, self._time_limit, attempt)
        job, child = self._current
        try:
            return [Reported(job.trial, job.attempt, next(child))]
        except StopIteration as end:
            self._current = None
            return [Ended(job.trial, job.attempt, end.value)]

    def stop(self, trial: int) -> None:
        """Stop the child at once."""
        self._waiting = deque(job for job in self._waiting if job.trial != trial)
        if self._current is not None and self._current[0].trial == trial:
            self._current[1].close()
            self._current = None

    def close(self) -> None:
        """Stop the current child."""
        if self._current is not None:
            self._current[1].close()
        self._current = None
        self._waiting.clear()
