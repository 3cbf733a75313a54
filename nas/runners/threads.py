"""Trains several children at once inside this process, each in a thread of its own: for one GPU, where each has a stream of its own.

Processes that share a GPU take turns on it; streams of one process compute beside one another: 1.5 to 2.1 times the images a second of one
child (``benchmarks/README.md``). The threads take turns at giving work to the GPU (``nas.training.turns``), which is soon done where
steps are replayed as CUDA graphs. On a CPU they gain nothing. A child that brings the process down takes the others with it; the ledger
knows what was trained.
"""

import math
import queue
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext

from nas.evaluators.evaluator import Attempt, Evaluation, Evaluator
from nas.evaluators.settings import RunnerSettings
from nas.runners.runner import Ended, Event, Job, Reported, checkpoint_rule, read_checkpoint, run_child

Place = Callable[[], AbstractContextManager[object]]
"""Makes what a thread is within while it trains."""


class _StoppedError(BaseException):
    """The driver wants no more of this child. Not an Exception: nothing on the way may take it for the child's failure."""


class ThreadedRunner:
    """So many children at once, as ``LocalRunner`` has one."""

    def __init__(
        self,
        evaluator: Evaluator,
        children: int,
        time_limit: float | None = None,
        rungs: Collection[int] = (),
        checkpoint_seconds: float = math.inf,
        place: Place = nullcontext,
    ) -> None:
        self.capacity = children
        self._evaluator, self._time_limit, self._place = evaluator, time_limit, place
        self._rungs, self._checkpoint_seconds = rungs, checkpoint_seconds
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._unwanted: set[int] = set()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"child {number}", daemon=True) for number in range(children)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job) -> None:
        """Accept a job; the first thread that is free takes it."""
        self._unwanted.discard(job.trial)
        self._jobs.put(job)

    def poll(self, timeout: float) -> list[Event]:
        """Events since the last call; waits up to ``timeout`` seconds for the first."""
        events: list[Event] = []
        try:
            events.append(self._events.get(timeout=timeout))
            while True:
                events.append(self._events.get_nowait())
        except queue.Empty:
            return [event for event in events if event.trial not in self._unwanted]

    def stop(self, trial: int) -> None:
        """End the child at its next batch."""
        self._unwanted.add(trial)

    def close(self) -> None:
        """End all children at their next batch, and wait for that."""
        self._closed = True
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        with self._place():
            while (job := self._jobs.get()) is not None and not self._closed:
                try:
                    self._train(job)
                except _StoppedError:
                    continue

    def _train(self, job: Job) -> None:
        def beat() -> None:
            if self._closed or job.trial in self._unwanted:
                raise _StoppedError

        beat()
        rule = checkpoint_rule(self._rungs, self._checkpoint_seconds)
        attempt = Attempt(read_checkpoint(job), job.batch_divisor, rule, beat, job.fidelity, job.rung)
        child = run_child(self._evaluator, job, self._time_limit, attempt)
        while True:
            try:
                self._events.put(Reported(job.trial, job.attempt, next(child)))
            except StopIteration as end:
                assert isinstance(end.value, Evaluation)
                self._events.put(Ended(job.trial, job.attempt, end.value))
                return


def stream_of(settings: RunnerSettings) -> Place:
    """What a thread trains within: where children take a GPU, a stream of its own."""
    return nullcontext if settings.gpus_per_child == 0 else own_stream


def own_stream() -> AbstractContextManager[object]:
    """A new stream of the current GPU, as long as it is entered; where there is no GPU, nothing."""
    import torch

    if not torch.cuda.is_available():
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]
