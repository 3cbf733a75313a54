"""Trains nothing: plays what children would do, on a clock of its own. Thousands of workers and days of search in minutes on one core."""

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from nas.evaluators.evaluator import Evaluation, Report
from nas.runners.runner import Ended, Event, Job, Lost, Reported


@dataclass(frozen=True, slots=True)
class Moment:
    """What a child says, ``seconds`` after its start: a report, its evaluation, or (as text) how its worker died."""

    seconds: float
    word: Report | Evaluation | str


Script = Callable[[Job], Iterable[Moment]]
"""What one child does, in order of time; its last word is an evaluation or a death. A function of the job alone, so that it repeats."""


@dataclass(order=True, slots=True)
class _Due:
    at: float
    order: int
    job: Job = field(compare=False)
    moment: Moment = field(compare=False)


class SimulatedRunner:
    """A runner of ``workers`` simulated workers.

    Simulated time passes in two ways: ``poll`` jumps to the next word of any child, and with ``driver_counts`` every second
    that the driver takes between two polls passes for the workers too, so that a slow driver leaves them idle, as it would.

    Attributes:
        now: simulated seconds since the start.
        busy: simulated worker seconds spent in children whose last word has been heard or who are running.
        lag: seconds between a child's last word and the poll that fetched it, summed over ``ended`` children.
    """

    def __init__(self, script: Script, workers: int, driver_counts: bool = False) -> None:
        self._script, self._workers, self._driver_counts = script, workers, driver_counts
        self._waiting: deque[Job] = deque()
        self._due: list[_Due] = []
        self._running: dict[int, tuple[int, float]] = {}  # trial -> attempt, since when
        self._started = 0
        self._left = time.perf_counter()
        self.now = 0.0
        self.busy = 0.0
        self.lag = 0.0
        self.ended = 0

    @property
    def capacity(self) -> int:
        """One child for each worker."""
        return self._workers

    @property
    def utilisation(self) -> float:
        """Share of all workers' simulated time spent in children, those still running included."""
        running = sum(self.now - began for _, began in self._running.values())
        return (self.busy + running) / (self._workers * self.now) if self.now else 0.0

    def submit(self, job: Job) -> None:
        """Accept a job; it starts now, or when a worker is free."""
        self._count_driver()
        self._waiting.append(job)
        self._start()

    def poll(self, timeout: float) -> list[Event]:
        """All words that are due; jumps to the next one where none is. ``timeout`` is not used: simulated time costs nothing."""
        self._count_driver()
        first = self._next()
        if first is not None:
            self.now = max(self.now, first.at)
        events: list[Event] = []
        while (due := self._next()) is not None and due.at <= self.now:
            heapq.heappop(self._due)
            word = due.moment.word
            if isinstance(word, Report):
                events.append(Reported(due.job.trial, due.job.attempt, word))
                continue
            self._free(due.job.trial, due.at)
            self.lag += self.now - due.at
            self.ended += 1
            if isinstance(word, Evaluation):
                events.append(Ended(due.job.trial, due.job.attempt, word))
            else:
                events.append(Lost(due.job.trial, due.job.attempt, word))
        self._start()
        self._left = time.perf_counter()
        return events

    def stop(self, trial: int) -> None:
        """Stop the child: its worker is free."""
        self._count_driver()
        self._waiting = deque(job for job in self._waiting if job.trial != trial)
        if trial in self._running:
            self._free(trial, self.now)
        self._start()

    def close(self) -> None:
        """Stop every child."""
        self._waiting.clear()
        self._due.clear()
        self._running.clear()

    def _next(self) -> _Due | None:
        """The next word of a child that has not been stopped."""
        while self._due:
            if self._running.get(self._due[0].job.trial, (0, 0.0))[0] == self._due[0].job.attempt:
                return self._due[0]
            heapq.heappop(self._due)
        return None

    def _count_driver(self) -> None:
        if self._driver_counts:
            moment = time.perf_counter()
            self.now += moment - self._left
            self._left = moment

    def _free(self, trial: int, at: float) -> None:
        self.busy += at - self._running.pop(trial)[1]

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._workers:
            job = self._waiting.popleft()
            self._running[job.trial] = job.attempt, self.now
            for moment in self._script(job):
                self._started += 1
                heapq.heappush(self._due, _Due(self.now + moment.seconds, self._started, job, moment))
